// Hostile and huge data, made through the API and by the forms, on every page: nothing runs, nothing breaks out, nothing
// overflows, and texts are shown as they are.
import assert from 'node:assert/strict';
import { nothing, stands } from '../harness/checks.mjs';
import * as hostile from '../harness/hostile.mjs';
import { journey } from '../harness/journey.mjs';
import { PASSWORD } from '../harness/person.mjs';
import { until } from '../harness/until.mjs';
import { walk } from '../harness/walk.mjs';

/** The keyboard and the colours are looked at elsewhere. */
const LOOK = { keyboard: false, looks: [['phone', 'light']] };

async function safe(person) {
  const found = [];
  await walk(person, async (kind) => {
    const { page } = person;
    if (await hostile.ran(page)) found.push(`${kind}: a script ran`);
    found.push(...(await hostile.brokenOut(page)).map((one) => `${kind}: broken out: ${one}`));
    found.push(...await stands(page, kind, LOOK));
  });
  nothing(found);
}

async function setUp(site, name, organisation) {
  const ada = await site.person();
  await ada.setUp(await site.server.setUpLink(), { name, organisation });
  const [tenant] = (await site.server.call('GET', '/v1/tenants')).items;
  return { ada, tenant_id: tenant.id };
}

journey('hostile texts stay texts on every page', async (site) => {
  const { server, receiver } = site;
  receiver.answer = { status: 500, body: hostile.BINARY, type: `text/html;"'<b>` };
  const { ada, tenant_id } = await setUp(site, hostile.name(0), hostile.name(1));
  await server.call('POST', '/v1/tenants', { name: hostile.name(2) });
  const described = hostile.MARKUP.join(' ') + hostile.DIRECTIONS;
  for (const n of hostile.MARKUP.keys()) {
    await server.call('PUT', `/v1/event-types/hostile.kind_${n}?tenant_id=${tenant_id}`, {
      group: hostile.name(n, 60), description: described, example: { [hostile.MARKUP[n]]: hostile.DIRECTIONS },
    });
    await server.call('POST', '/v1/api-keys', { tenant_id, name: hostile.name(n), role: 'member' });
    await server.call('POST', '/v1/webhooks', {
      tenant_id,
      name: hostile.name(n),
      description: described,
      events: [`hostile.kind_${n}`],
      url: `${receiver.url('/x')}?q=${encodeURIComponent(hostile.MARKUP[n])}&${hostile.long(200)}`,
      headers: { 'x-custom': hostile.MARKUP[0] },
      dialect: n % 2 ? 'standard' : 'athenty',
    });
    const data = { [hostile.MARKUP[n]]: [hostile.DIRECTIONS, hostile.MARKUP, hostile.long(10_000)] };
    await server.call('POST', '/v1/events', { tenant_id, type: `hostile.kind_${n}`, data });
  }
  const receives = { source: 'custom', secret: 'nobody knows it' };
  const made = await server.call('POST', '/v1/webhooks', { tenant_id, name: hostile.name(5), events: [], receiver: receives });
  for (const body of [hostile.BINARY, hostile.MARKUP.join(), hostile.long(100_000)]) {
    const headers = { 'content-type': hostile.MARKUP[1], 'x-hostile': hostile.MARKUP[0] };
    await fetch(server.url + new URL(made.receiver.receive_url).pathname, { method: 'POST', headers, body });
  }
  await until('the endpoint has answered all', () => receiver.deliveries.length >= hostile.MARKUP.length);
  await ada.invite('grace@example.com', 'Member', hostile.name(3));
  const other = await site.person({ userAgent: `${hostile.MARKUP[1]} ${hostile.DIRECTIONS.replace(/[^ -~]/g, '')}` });
  await other.logIn('ada@example.com', PASSWORD);
  await other.at('Overview');

  await ada.webhooks();
  const shown = await ada.page.locator('article.webhook h2').allInnerTexts();
  const expected = [...hostile.MARKUP.keys()].map((n) => hostile.name(n)).reverse();
  const plain = (text) => text.replace(/\s+/g, ' ').trim();
  assert.deepEqual(shown.map(plain), expected.map(plain), 'texts are shown as they are');
  await safe(ada);
}, { timeout: 600_000 });

journey('a reflected address, and a search, stay text', async (site) => {
  const { ada } = await setUp(site, 'Ada', 'Acme');
  const found = [];
  for (const path of ['/settings/users', '/settings/tenants', '/settings/audit-log', '/settings/webhooks', '/login', '/settings/x']) {
    // Each parameter with all of it, one after the other.
    for (const name of ['q', 'next', 'actor', 'action', 'since', 'cursor', 'open', 'type', 'status', 'webhook']) {
      await ada.visit(`${path}?${name}=${encodeURIComponent(hostile.MARKUP.join(' '))}`);
      if (await hostile.ran(ada.page)) found.push(`${path} ${name}: a script ran`);
      found.push(...(await hostile.brokenOut(ada.page)).map((one) => `${path} ${name}: broken out: ${one}`));
    }
  }
  nothing(found);
});

journey('a great many of everything', async (site) => {
  const { server, receiver } = site;
  const { ada, tenant_id } = await setUp(site, hostile.long(120), hostile.long(120));
  const many = (count) => Array.from({ length: count }, (_, n) => n);
  for (const n of many(150)) {
    await server.call('POST', '/v1/tenants', { name: `${n} ${hostile.long(100)}` });
    await server.call('POST', '/v1/api-keys', { tenant_id, name: `${n} ${hostile.long(100)}`, role: 'viewer' });
    await server.call('PUT', `/v1/event-types/type.${hostile.long(100)}_${n}?tenant_id=${tenant_id}`, { group: `group ${n % 9}` });
  }
  for (const n of many(51)) {
    await server.call('POST', '/v1/webhooks', {
      tenant_id, name: hostile.long(120), description: hostile.long(2000), url: `${receiver.url('/')}${hostile.long(1900)}`,
      events: n ? many(100).map((k) => `type.${n}_${k}_${hostile.long(90)}`) : [],
    });
  }
  const events = many(100).map((n) => ({ type: `type.${hostile.long(100)}_${n}`, data: { n, text: hostile.long(8000) } }));
  await server.call('POST', '/v1/events', { tenant_id, events });
  await until('all have arrived', () => receiver.deliveries.length >= 100);
  await safe(ada);
}, { timeout: 600_000 });
