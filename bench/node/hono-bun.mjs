// Hono on Bun: `bun hono-bun.mjs PORT`.
import { Hono } from "hono";

const app = new Hono();
app.get("/", (context) => context.json({ message: "Hello, World!" }));
Bun.serve({ fetch: app.fetch, port: Number(process.argv[2]), hostname: "127.0.0.1" });
