// A bot on grammY, behind ringhook.
//
// BOT_TOKEN and BOT_SECRET are needed. BOT_PORT or BOT_SOCKET says where it listens, BOT_PATH under
// which path, BOT_API_ROOT where the Bot API is. BOT_LOG names a file that gets a line for each
// update handled, BOT_WORK makes each take up to that many milliseconds, BOT_FAULTS makes so many in
// one fail before that, half of them after five seconds.

import { appendFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { Bot, InputFile, webhookCallback } from "grammy";

const env = process.env;
const path = env.BOT_PATH ?? "/webhook";
const failures = new Map();

const bot = new Bot(env.BOT_TOKEN, {
  client: {
    apiRoot: env.BOT_API_ROOT ?? "https://api.telegram.org",
    // Off by default. The first such call of an update is the body of the answer.
    canUseWebhookReply: (method) => method === "sendMessage" || method === "sendDocument",
  },
});

bot.use(async (ctx, next) => {
  if (Math.random() < (env.BOT_FAULTS ?? 0)) {
    await sleep(Math.random() < 0.5 ? 0 : 5000);
    throw new Error("asked to fail");
  }
  await sleep(Math.random() * (env.BOT_WORK ?? 0));
  await next();
  record(ctx.update);
});
bot.command("start", (ctx) => ctx.reply("Hello from grammY"));
// Calls with a file never are the body of the answer: this one is a call of its own.
bot.command("file", (ctx) =>
  ctx.replyWithDocument(new InputFile(Buffer.from("a small file\n".repeat(10)), "hello.txt")),
);
// Throws: each time, or as often as its argument says.
bot.command("fail", (ctx) => {
  const id = ctx.update.update_id;
  failures.set(id, (failures.get(id) ?? 0) + 1);
  if (failures.get(id) <= Number(ctx.match || 1e6)) throw new Error("asked to fail");
});

function record(update) {
  if (!env.BOT_LOG) return;
  const kind = Object.keys(update).find((key) => key !== "update_id");
  appendFileSync(env.BOT_LOG, `${update.update_id} ${kind} ${chatOf(update[kind])}\n`);
}

// The id that an update belongs to: of a chat, a poll or a user.
function chatOf(payload) {
  return (
    payload.chat?.id ??
    payload.message?.chat?.id ??
    payload.poll_id ??
    payload.from?.id ??
    payload.user?.id ??
    payload.id ??
    "-"
  );
}

const handle = webhookCallback(bot, "http", {
  secretToken: env.BOT_SECRET,
  // The default is 10 s and an error.
  timeoutMilliseconds: 60_000,
});
const server = createServer(async (request, response) => {
  if (stopping) response.setHeader("Connection", "close");
  if (request.url !== path) return response.writeHead(404).end();
  try {
    await handle(request, response);
  } catch (error) {
    // Without this an error in a handler ends the process. 500: ringhook sends the update again.
    console.error(error);
    if (!response.headersSent) response.writeHead(500).end();
  }
});
// Above the time after which ringhook closes a connection that it does not need.
server.keepAliveTimeout = 75_000;
// A process that was killed leaves its socket behind.
if (env.BOT_SOCKET) rmSync(env.BOT_SOCKET, { force: true });
server.listen(env.BOT_SOCKET ?? { port: Number(env.BOT_PORT ?? 3000), host: "127.0.0.1" });

// Waits for the requests under way. close() alone also waits for each connection that stays in use.
let stopping = false;
process.on("SIGTERM", () => {
  stopping = true;
  server.close();
  setInterval(() => server.closeIdleConnections(), 100).unref();
});
