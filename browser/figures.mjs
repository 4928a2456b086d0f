// Measures every page of the console over a large store: bytes, requests, time to first byte and to full render.
//
// usage: figures.mjs DELIVERIES [BINARY]; prints a table for docs/benchmarks.md. History is made as it comes about in
// life: events are published through the API and delivered to an endpoint in a process of its own.
import { fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';

const [wanted = '1000000', measured] = process.argv.slice(2);

/** Webhooks that each event goes to. */
const WEBHOOKS = 10;
const BATCH = 200;
/** Batches that are on their way at once. */
const AT_ONCE = 4;
/** Accepted, and not yet delivered: the queue stays short. */
const AHEAD = 40_000;
const VISITS = 7;
const LIMITS = { bytes: 100 * 1024, ms: 100 };

/** One of twenty requests of the last webhook fails, for good. */
function endpoint() {
  let calls = 0;
  const server = createServer((request, response) => {
    calls += 1;
    request.resume();
    const fails = request.url === '/last' && calls % 20 === 0;
    response.writeHead(fails ? 500 : 200, { 'content-type': 'application/json' }).end('{"received":true}');
  });
  process.on('message', () => process.send({ calls }));
  server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }));
}

const answer = (child) => new Promise((resolve) => { child.once('message', resolve); });

async function delivered(child) {
  child.send('how many?');
  return (await answer(child)).calls;
}

async function filled(server, child, port, tenant_id, deliveries) {
  const types = ['order.placed', 'order.paid', 'shipment.dispatched', 'invoice.issued', 'invoice.paid'];
  for (let n = 0; n < WEBHOOKS; n += 1) {
    const last = n === WEBHOOKS - 1;
    await server.call('POST', '/v1/webhooks', {
      tenant_id, name: `Endpoint ${n + 1}`, events: [], url: `http://127.0.0.1:${port}/${last ? 'last' : n}`,
      retry: last ? { max_attempts: 1 } : undefined,
    });
  }
  let published = 0;
  const publisher = async () => {
    while (published * WEBHOOKS < deliveries) {
      published += BATCH;
      const from = published;
      const events = Array.from({ length: BATCH }, (_, n) => ({
        type: types[n % types.length], data: { order: `FS-${from + n}`, amount: '129.00', currency: 'EUR', note: 'leave at the gate' },
      }));
      await server.call('POST', '/v1/events', { tenant_id, events });
      while (published * WEBHOOKS - (await progress()) > AHEAD) await pause(50);
    }
  };
  let arrived = 0;
  let asked = Promise.resolve();
  const progress = async () => {
    asked = asked.then(async () => { arrived = await delivered(child); });
    await asked;
    return arrived;
  };
  const shown = setInterval(() => console.error(`${arrived} delivered`), 10_000);
  await Promise.all(Array.from({ length: AT_ONCE }, publisher));
  while ((await progress()) < published * WEBHOOKS) await pause(100);
  clearInterval(shown);
  return arrived;
}

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** Until a process does next to nothing: after so much at once there is history to sum up and a log to fold in. */
async function idle(pid) {
  // Hundredths of a second, of user and system.
  const used = () => readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ').slice(11, 13).reduce((a, b) => a + Number(b), 0);
  for (let before = used(), calm = 0; calm < 3;) {
    await pause(1000);
    calm = used() - before < 5 ? calm + 1 : 0;
    before = used();
  }
}

const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];

/** One visit, as the browser has timed it. */
async function visited(page, address) {
  await page.goto(address, { waitUntil: 'load' });
  return page.evaluate(() => {
    const [document_] = performance.getEntriesByType('navigation');
    const all = [document_, ...performance.getEntriesByType('resource')];
    return {
      html: document_.decodedBodySize,
      sent: all.reduce((sum, one) => sum + one.transferSize, 0),
      requests: all.length,
      first: document_.responseStart - document_.requestStart,
      full: document_.loadEventEnd - document_.startTime,
    };
  });
}

/** The first visit, in a browser that has nothing, and the median of those that follow. */
async function figures(person, address) {
  const fresh = await (await person.context.browser()).newContext({ storageState: await person.context.storageState() });
  const page = await fresh.newPage();
  const cold = await visited(page, address);
  const warm = [];
  for (let n = 0; n < VISITS; n += 1) warm.push(await visited(page, address));
  await fresh.close();
  const of = (what) => median(warm.map((one) => one[what]));
  return { html: cold.html, cold: cold.sent, requests: cold.requests, first: of('first'), full: of('full'), coldFull: cold.full };
}

async function measure() {
  if (measured) process.env.POSTRIDER_BINARY = measured;
  const { Site, closeBrowser } = await import('./harness/site.mjs');
  const { walk } = await import('./harness/walk.mjs');
  const child = fork(new URL(import.meta.url), ['endpoint']);
  const site = new Site();
  try {
    const { port } = await answer(child);
    await site.start({});
    const ada = await site.admin();
    const [tenant] = (await site.server.call('GET', '/v1/tenants')).items;
    const began = Date.now();
    const count = await filled(site.server, child, port, tenant.id, Number(wanted));
    console.error(`${count} deliveries in ${Math.round((Date.now() - began) / 1000)} s`);
    await idle(site.server.process.pid);
    const found = [];
    const pages = [];
    await walk(ada, async (kind, address) => { pages.push([kind, address]); });
    // What the browser takes for a line of text, without stylesheet or script.
    const floor = await figures(ada, new URL('/healthz', pages[0][1]).href);
    for (const [kind, address] of pages) found.push({ kind, ...await figures(ada, address) });
    report(count, floor, found);
  } finally {
    child.kill();
    await site.stop();
    await closeBrowser();
  }
}

function report(count, floor, found) {
  console.log(`\nWith ${count.toLocaleString('en')} finished deliveries in the store:\n`);
  console.log('| page | HTML | first visit: sent, requests, full render | again: first byte | again: full render |');
  console.log('|---|---|---|---|---|');
  const kb = (bytes) => `${(bytes / 1024).toFixed(1)} KB`;
  const ms = (time) => `${time.toFixed(0)} ms`;
  for (const { kind, html, cold, requests, coldFull, first, full } of [{ kind: '/healthz', ...floor }, ...found]) {
    console.log(`| \`${kind}\` | ${kb(html)} | ${kb(cold)}, ${requests}, ${ms(coldFull)} | ${ms(first)} | ${ms(full)} |`);
  }
  const over = found.filter(({ cold, full }) => cold > LIMITS.bytes || full > LIMITS.ms);
  console.log(over.length ? `\nOver 100 KB or 100 ms: ${over.map(({ kind }) => kind).join(', ')}` : '\nNone is over 100 KB or 100 ms.');
}

if (wanted === 'endpoint') endpoint();
else await measure();
