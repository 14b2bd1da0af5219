// A receiver made of Node's https alone: the token is compared in constant time, the body is
// parsed.
//
//   node node.mjs HOST PORT CERT KEY SECRET-TOKEN-FILE

import { timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';

const [host, port, cert, key, secretFile] = process.argv.slice(2);
const secret = Buffer.from(readFileSync(secretFile, 'utf8').trim());
const BODY_BYTES_MAX = 1 << 20;

function isToken(header) {
  const token = Buffer.from(header ?? '');
  return token.length === secret.length && timingSafeEqual(token, secret);
}

function end(response, status) {
  response.writeHead(status, { 'Content-Length': 0 }).end();
}

const options = {
  cert: readFileSync(cert),
  key: readFileSync(key),
  minVersion: 'TLSv1.2',
  maxVersion: 'TLSv1.3',
  // Longer than Telegram keeps an idle connection.
  keepAliveTimeout: 75_000,
  noDelay: true,
};

const server = createServer(options, (request, response) => {
  if (request.method !== 'POST') return end(response, 405);
  if (!isToken(request.headers['x-telegram-bot-api-secret-token'])) return end(response, 403);
  const chunks = [];
  let length = 0;
  request.on('data', (chunk) => {
    length += chunk.length;
    if (length <= BODY_BYTES_MAX) chunks.push(chunk);
  });
  request.on('end', () => {
    if (length > BODY_BYTES_MAX) return end(response, 413);
    let id;
    try {
      id = JSON.parse(Buffer.concat(chunks)).update_id;
    } catch {
      // No JSON.
    }
    end(response, Number.isInteger(id) ? 200 : 400);
  });
});
server.listen({ host, port: Number(port), backlog: 1024 });
