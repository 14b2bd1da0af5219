// A bot on Telegraf that polls: it writes down what it handles.

import { appendFileSync } from "node:fs";
import { env } from "node:process";
import { Telegraf } from "telegraf";

const bot = new Telegraf(env.BOT_TOKEN, { telegram: { apiRoot: env.BOT_API_ROOT } });
bot.on("message", (context) => {
  const { message_id, chat } = context.message;
  appendFileSync(env.BOT_LOG, `${message_id} message ${chat.id}\n`);
});
process.on("SIGTERM", () => bot.stop("SIGTERM"));
await bot.launch();
