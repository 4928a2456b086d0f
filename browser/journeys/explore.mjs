// Overview, events and deliveries: what happens is seen, found, and sent again.
import assert from 'node:assert/strict';
import { journey } from '../harness/journey.mjs';
import { until } from '../harness/until.mjs';

const FINE = { status: 200, body: '{"received":true}' };

const WEBHOOKS = [['CRM', '/crm', 'order.*'], ['Warehouse', '/stock', 'order.paid'], ['Accounting', '/ledger', 'invoice.*']];

/** Orders arrive at two webhooks; invoices fail at a third, and are given up. */
async function busy(site, how) {
  const { server, receiver } = site;
  const ada = await site.admin(how);
  const [{ id: tenant_id }] = (await server.call('GET', '/v1/tenants')).items;
  receiver.answer = (path) => (path === '/ledger' ? { status: 500, body: 'the books are closed' } : FINE);
  for (const [name, path, type] of WEBHOOKS) {
    await server.call('POST', '/v1/webhooks', {
      tenant_id, name, url: receiver.url(path), events: [type], dialect: 'standard', retry: { max_attempts: 1 },
    });
  }
  const paid = ['Bistro Calypso', 'Hotel Belvedere'].map((customer) => ({ type: 'order.paid', data: { customer } }));
  const issued = [1, 2, 3].map((number) => ({ type: 'invoice.issued', data: { number } }));
  await server.call('POST', '/v1/events', { tenant_id, events: [...paid, ...issued] });
  const ended = async (status, count) => {
    const { items } = await server.call('GET', `/v1/deliveries?tenant_id=${tenant_id}&status=${status}`);
    return items.length === count;
  };
  await until('all have ended', async () => (await ended('succeeded', 4)) && ended('failed', 3));
  return ada;
}

/** Narrows the deliveries to invoices that failed. */
async function failed(ada) {
  await ada.visit('/settings/deliveries');
  await ada.page.getByLabel('Status').selectOption('failed');
  await ada.page.getByLabel(/^Event type/).fill('invoice.issued');
  await ada.button('Filter').click();
  await ada.page.waitForURL(/status=failed/);
  assert.equal(await ada.page.locator('#live-rows tbody tr').count(), 3);
  await ada.page.getByText('the books are closed').first().waitFor();
}

const at = (receiver, path, after) => receiver.deliveries.slice(after).filter((one) => one.path === path).length;

journey('the overview shows what was delivered, and leads to what fails', async (site) => {
  const ada = await busy(site);
  await until('it is counted', async () => {
    await ada.visit('/settings/overview');
    return (await ada.page.content()).includes('4 delivered, 3 failed');
  });
  await ada.page.locator('section[aria-labelledby=failing]').getByRole('link', { name: 'Accounting' }).click();
  await ada.at('Deliveries');
  assert.equal(await ada.page.locator('#live-rows tbody tr').count(), 3);
});

for (const [how, javaScriptEnabled] of [['', true], [', without JavaScript', false]]) {
  journey(`what failed is counted, sent again in bulk and arrives${how}`, async (site) => {
    const { receiver } = site;
    const ada = await busy(site, { javaScriptEnabled });
    await failed(ada);
    receiver.answer = FINE;
    const before = receiver.deliveries.length;
    await ada.link('Send these again…').click();
    await ada.at('Send again');
    await ada.page.getByRole('heading', { name: '3 deliveries' }).waitFor();
    assert.equal(receiver.deliveries.length, before, 'counting sends nothing');
    await ada.button('Replay 3 deliveries').click();
    await ada.told('The replay is running');
    const finished = ada.page.locator('#progress .pill.good');
    if (javaScriptEnabled) await finished.waitFor();
    else await until('it has ended', async () => { await ada.page.reload(); return finished.count(); });
    await ada.page.getByText('3 of 3 deliveries').waitFor();
    await until('all arrive', () => at(receiver, '/ledger', before) === 3);
    assert.equal(receiver.deliveries.length, before + 3, 'and nothing else');
    await ada.link('All replays').click();
    await ada.page.locator('tbody tr', { hasText: '3 of 3 deliveries' }).waitFor();
  });
}

journey('a replay that is slow shows how far it is, and is canceled', async (site) => {
  const { receiver } = site;
  const ada = await busy(site);
  await failed(ada);
  receiver.answer = FINE;
  const before = receiver.deliveries.length;
  await ada.link('Send these again…').click();
  await ada.page.getByLabel(/^At most a second/).fill('0.01');
  await ada.button('Count again').click();
  await ada.page.waitForURL(/rate=0\.01/);
  await ada.button('Replay 3 deliveries').click();
  await ada.page.getByText('1 of 3 deliveries').waitFor();
  await ada.button('Cancel the replay').click();
  await ada.told('The replay is canceled');
  await ada.page.locator('#progress').getByText('Canceled').waitFor();
  await until('what was queued arrives', () => at(receiver, '/ledger', before) === 1);
});

journey('an event is found by what is in it, and sent again to one webhook', async (site) => {
  const { receiver } = site;
  const ada = await busy(site);
  await ada.visit('/settings/events');
  await ada.page.getByLabel(/^In the payload/).fill('calypso');
  await ada.button('Search').click();
  await ada.page.locator('mark', { hasText: 'Calypso' }).waitFor();
  const rows = ada.page.locator('main tbody tr');
  assert.equal(await rows.count(), 1);
  await rows.getByRole('link').click();
  await ada.at('Event order.paid');
  await ada.page.locator('figure.code', { hasText: 'Bistro Calypso' }).waitFor();
  assert.equal(await rows.count(), 2);

  const before = receiver.deliveries.length;
  await ada.page.getByLabel('To', { exact: true }).selectOption({ label: 'Warehouse' });
  await ada.button('Replay').click();
  await ada.told('to one webhook');
  assert.equal(await rows.count(), 3);
  const again = await receiver.next(before);
  assert.equal(again.path, '/stock');
  assert.ok(again.body.includes('Bistro Calypso'));
});

journey('deliveries appear while the page is open, and move nothing under a reader', async (site) => {
  const { server, receiver } = site;
  const ada = await site.admin();
  const [{ id: tenant_id }] = (await server.call('GET', '/v1/tenants')).items;
  await server.call('POST', '/v1/webhooks', { tenant_id, name: 'CRM', url: receiver.url(), events: [], dialect: 'standard' });
  const publish = (type, count) => server.call('POST', '/v1/events', {
    tenant_id, events: Array.from({ length: count }, (_, n) => ({ type, data: { n } })),
  });
  const shown = (type) => ada.page.locator('#live-rows tbody tr', { hasText: type });
  /** Looks without pointing at the rows, which would hold them still. */
  const look = async () => {
    await ada.visit('/settings/deliveries');
    await ada.page.mouse.move(0, 0);
  };

  await look();
  await ada.page.evaluate(() => { globalThis.__opened = true; });
  await publish('order.placed', 1);
  await shown('order.placed').locator('.pill.good').waitFor();
  assert.ok(await ada.page.evaluate(() => globalThis.__opened), 'without loading the page again');

  await publish('order.paid', 30);
  await until('all have arrived', () => receiver.deliveries.length === 31);
  await look();
  await ada.page.evaluate(() => scrollTo(0, document.body.scrollHeight));
  await publish('order.canceled', 2);
  await ada.link('2 new').waitFor();
  assert.equal(await shown('order.canceled').count(), 0, 'not under somebody who reads');
  await ada.visit(await ada.link('2 new').getAttribute('href'));
  assert.equal(await shown('order.canceled').count(), 2);

  await ada.link('Older').click();
  await ada.page.waitForURL(/cursor=/);
  await publish('order.refunded', 1);
  await ada.link('1 new').waitFor();
  assert.equal(await shown('order.refunded').count(), 0);
});
