// Posts updates through an https.Agent that keeps its connections, and prints what came back.
//
// Arguments: host, port, certificate, path, secret token, first id, lanes, requests of each lane.
"use strict";

const fs = require("fs");
const https = require("https");

const [host, port, ca, path, secret, first, lanes, each] = process.argv.slice(2);
const agent = new https.Agent({ keepAlive: true, maxSockets: Number(lanes) });
const sockets = new Set();
const statuses = {};

function post(id) {
  const body = JSON.stringify({
    update_id: id,
    message: { message_id: 1, date: 1700000000, chat: { id: id % 7 }, text: `hello ${id}` },
  });
  return new Promise((resolve, reject) => {
    const request = https.request({
      agent, host, port, path,
      ca: fs.readFileSync(ca),
      method: "POST",
      timeout: 30000,
      headers: {
        "Content-Type": "application/json",
        "Content-Length": Buffer.byteLength(body),
        "X-Telegram-Bot-Api-Secret-Token": secret,
      },
    });
    request.on("socket", (socket) => sockets.add(socket));
    request.on("timeout", () => request.destroy(new Error("no answer within 30 s")));
    request.on("error", reject);
    request.on("response", (response) => {
      statuses[response.statusCode] = (statuses[response.statusCode] || 0) + 1;
      response.on("error", reject);
      response.on("end", resolve);
      response.resume();
    });
    request.end(body);
  });
}

async function lane(index) {
  for (let n = 0; n < Number(each); n++) {
    await post(Number(first) + index * Number(each) + n);
  }
}

Promise.all(Array.from({ length: Number(lanes) }, (_, index) => lane(index)))
  .then(() => {
    agent.destroy();
    console.log(JSON.stringify({ statuses, connections: sockets.size }));
  })
  .catch((error) => {
    console.error(error);
    process.exit(1);
  });
