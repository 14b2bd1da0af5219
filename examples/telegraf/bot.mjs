// A bot on Telegraf, behind ringhook.
//
// BOT_TOKEN and BOT_SECRET are needed. BOT_PORT or BOT_SOCKET says where it listens, BOT_PATH under
// which path, BOT_API_ROOT where the Bot API is. BOT_LOG names a file that gets a line for each
// update handled, BOT_WORK makes each take up to that many milliseconds.

import { appendFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { Telegraf } from "telegraf";

const env = process.env;
const failures = new Map();

const bot = new Telegraf(env.BOT_TOKEN, {
  // Below ringhook's 65 s; the default is 90 s.
  handlerTimeout: 60_000,
  telegram: {
    apiRoot: env.BOT_API_ROOT ?? "https://api.telegram.org",
    // The default. Of all methods these can be the body of the answer: sendChatAction,
    // answerCallbackQuery, answerInlineQuery, deleteMessage, leaveChat.
    webhookReply: true,
  },
});

bot.use(async (ctx, next) => {
  await sleep(Math.random() * (env.BOT_WORK ?? 0));
  await next();
  record(ctx.update);
});
bot.start(async (ctx) => {
  // A call of its own, and after it the body of the answer: the answer leaves with that call.
  await ctx.reply("Hello from Telegraf");
  await ctx.sendChatAction("typing");
});
bot.command("file", (ctx) => {
  const source = Buffer.from("a small file\n".repeat(10));
  return ctx.replyWithDocument({ source, filename: "hello.txt" });
});
bot.on("callback_query", (ctx) => ctx.answerCbQuery("Hello from Telegraf"));
bot.on("inline_query", (ctx) => ctx.answerInlineQuery([]));
// Throws: each time, or as often as its argument says.
bot.command("fail", (ctx) => {
  const id = ctx.update.update_id;
  failures.set(id, (failures.get(id) ?? 0) + 1);
  if (failures.get(id) <= Number(ctx.payload || 1e6)) throw new Error("asked to fail");
});

// Without this an error ends the process. Telegraf has answered 200 by default even then; with 500
// ringhook sends the update again. The field is internal to this version of Telegraf.
bot.catch((error, ctx) => {
  console.error(error);
  const response = ctx.telegram.response;
  if (response && !response.headersSent) response.statusCode = 500;
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

// Not bot.launch: with a domain it sets the webhook anew.
const handle = bot.webhookCallback(env.BOT_PATH ?? "/webhook", { secretToken: env.BOT_SECRET });
const server = createServer((request, response) => {
  if (stopping) response.setHeader("Connection", "close");
  return handle(request, response);
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
