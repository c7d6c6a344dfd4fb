// Express on Node: `node express.mjs PORT`.
import express from "express";

const app = express();
app.get("/", (request, response) => {
  response.json({ message: "Hello, World!" });
});
app.listen(Number(process.argv[2]), "127.0.0.1", 2048);
