// NestJS on Node with Express, as it is by default: `node nest.mjs PORT`. Decorators are called as the functions they are.
import "reflect-metadata";
import { Controller, Get, Module } from "@nestjs/common";
import { NestFactory } from "@nestjs/core";

class GreetingController {
  read() {
    return { message: "Hello, World!" };
  }
}
Controller()(GreetingController);
Get()(GreetingController.prototype, "read", Object.getOwnPropertyDescriptor(GreetingController.prototype, "read"));

class GreetingModule {}
Module({ controllers: [GreetingController] })(GreetingModule);

const app = await NestFactory.create(GreetingModule, { logger: ["error"] });
await app.listen(Number(process.argv[2]), "127.0.0.1");
