// The customers' portal in a frame of a product's page, as docs/portal.md has it.
import assert from 'node:assert/strict';
import { nothing, stands } from '../harness/checks.mjs';
import { journey } from '../harness/journey.mjs';
import { verifiesStandard } from '../harness/receiver.mjs';
import { walk } from '../harness/walk.mjs';

let product;
const settings = async (site) => {
  product = await site.product();
  return (port) => ({
    POSTRIDER_PUBLIC_URL: `http://localhost:${port}`,
    POSTRIDER_PORTAL_FRAME_ANCESTORS: product.origin,
  });
};

/** A customer's tenant, whose portal the product shows. */
async function bistro({ server }) {
  const { id: tenant_id } = await server.call('POST', '/v1/tenants', { name: 'Bistro Calypso' });
  await server.call('PUT', `/v1/event-types/order.placed?tenant_id=${tenant_id}`, {
    group: 'Orders',
    description: 'A guest has ordered.',
    schema: { type: 'object', required: ['table'], properties: { table: { type: 'integer' } } },
    example: { table: 7 },
  });
  product.link = async (role) => (await server.call('POST', '/v1/portal-sessions', { tenant_id, role })).url;
  return tenant_id;
}

/** Somebody who looks at the product's page; gives him within its frame. */
async function customer(site, query = '') {
  const person = await site.person();
  await person.visit(`${product.origin}/?${query}`);
  const inside = person.inFrame();
  await inside.at('Webhooks');
  return inside;
}

const ordered = ({ server }, tenant_id) => server.call('POST', '/v1/events', {
  tenant_id, type: 'order.placed', data: { table: 12 },
});

/** Opens the history of a webhook's row. */
async function history(person, name) {
  await person.row(name).locator('a.chevron').click();
  const shown = person.row(name).getByRole('region', { name: 'Deliveries' });
  await shown.getByRole('link', { name: 'order.placed' }).waitFor();
  return shown;
}

journey('a customer adds a webhook in the frame, and sees what it was told', async (site) => {
  const { receiver } = site;
  const tenant_id = await bistro(site);
  const chef = await customer(site);
  await chef.page.getByText('No webhooks yet').waitFor();
  const { secret } = await chef.addWebhook({ url: receiver.url(), name: 'Kitchen', events: ['order.placed'] });
  assert.ok(verifiesStandard(await receiver.next(), secret), 'the ping is signed');
  await chef.link('I have it').click();
  for (const now of ['false', 'true']) {
    await chef.row('Kitchen').getByRole('switch').click();
    await chef.row('Kitchen').locator(`[role=switch][aria-checked=${now}]`).waitFor();
  }

  await ordered(site, tenant_id);
  assert.ok(verifiesStandard(await receiver.next(1), secret), 'and so is what happens');
  await (await history(chef, 'Kitchen')).getByRole('link', { name: 'order.placed' }).click();
  await chef.at(/^Delivery \d+/);
  await chef.page.locator('figure.code', { hasText: '"table"' }).first().waitFor();

  await chef.link('Event types').click();
  await chef.link('order.placed').click();
  await chef.at('order.placed');
  await chef.page.getByText('A guest has ordered.').waitFor();
  await chef.page.locator('figure.code', { hasText: 'Example' }).waitFor();
  await chef.page.locator('figure.code', { hasText: 'JSON Schema' }).waitFor();
}, { settings });

journey('whose link only looks is shown no forms', async (site) => {
  const tenant_id = await bistro(site);
  await site.server.call('POST', '/v1/webhooks', { tenant_id, name: 'Kitchen', url: site.receiver.url(), events: [] });
  await ordered(site, tenant_id);
  await site.receiver.next();
  const guest = await customer(site, 'role=viewer');
  const acts = guest.page.locator('form[method=post], main a[href$="/new"]');
  const shown = await history(guest, 'Kitchen');
  assert.equal(await acts.count(), 0);
  await shown.getByRole('link', { name: 'order.placed' }).click();
  await guest.at(/^Delivery \d+/);
  assert.equal(await acts.count(), 0);
  assert.equal(await guest.get('/portal/webhooks/new'), 403, 'nor past the page');
}, { settings });

journey('a page of an origin that is not configured shows nothing of it', async (site) => {
  await bistro(site);
  const other = await site.product();
  other.link = product.link;
  const person = await site.person();
  await person.visit(other.origin);
  await site.provoked(/frame-ancestors/);
  const [, frame] = person.page.frames();
  assert.ok(!frame.url().startsWith(site.url), `the frame has ${frame.url()}`);
}, { settings });

journey('a link is good for one use, and its session for the portal alone', async (site) => {
  await bistro(site);
  const link = await product.link('admin');
  const first = await site.person();
  await first.visit(link);
  await first.at('Webhooks');
  const second = await site.person();
  assert.equal((await second.visit(link)).status(), 401);
  await second.at('Your session has ended');

  assert.equal(await first.get('/portal/webhooks'), 200);
  assert.equal(await first.get('/settings/webhooks'), 303, 'to the log-in');
  const { value } = (await first.context.cookies()).find(({ name }) => name === 'postrider_portal_session');
  const status = async (path, headers) => (await fetch(site.server.url + path, { headers, redirect: 'manual' })).status;
  assert.equal(await status('/settings/webhooks', { cookie: `postrider_session=${value}` }), 303, 'not under the other name');
  assert.equal(await status('/v1/webhooks', { authorization: `Bearer ${value}` }), 401, 'nor as a key');
}, { settings });

journey('the page around the portal chooses light or dark', async (site) => {
  await bistro(site);
  const colours = [];
  for (const theme of ['light', 'dark']) {
    const { page } = await customer(site, `theme=${theme}`);
    await page.locator(`html[data-theme=${theme}]`).waitFor();
    colours.push(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
  }
  assert.notEqual(colours[0], colours[1]);
}, { settings });

journey('every page of the portal', async (site) => {
  const tenant_id = await bistro(site);
  await site.server.call('POST', '/v1/webhooks', { tenant_id, name: 'Kitchen', url: site.receiver.url(), events: [] });
  await ordered(site, tenant_id);
  await site.receiver.next();
  const guest = await site.person();
  await guest.visit(await product.link('admin'));
  const found = [];
  const kinds = await walk(guest, async (kind) => found.push(...await stands(guest.page, kind)), { from: ['/portal'] });
  for (const known of ['/portal/webhooks/new', '/portal/webhooks/*/deliveries/*', '/portal/event-types/type?name']) {
    assert.ok(kinds.includes(known), `${known} was visited`);
  }
  assert.ok(kinds.every((kind) => kind.startsWith('/portal')), `nothing leads out of it: ${kinds.join(' ')}`);
  const late = await site.person();
  await late.visit('/portal/webhooks');
  found.push(...await stands(late.page, 'without a session'));
  nothing(found);
}, { settings, timeout: 600_000 });
