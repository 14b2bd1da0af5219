// A bot on grammY that polls: it writes down what it handles.

import { appendFileSync } from "node:fs";
import { env } from "node:process";
import { Bot } from "grammy";

const bot = new Bot(env.BOT_TOKEN, { client: { apiRoot: env.BOT_API_ROOT } });
bot.on("message", (context) => {
  const { message_id, chat } = context.message;
  appendFileSync(env.BOT_LOG, `${message_id} message ${chat.id}\n`);
});
process.on("SIGTERM", () => bot.stop());
await bot.start();
