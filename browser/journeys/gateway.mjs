// Clients, public routes and tenant hostnames: what strangers reach of a database.
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { journey } from '../harness/journey.mjs';
import { until } from '../harness/until.mjs';

const settings = ({ folder }) => ({ POSTRIDER_SQLITE_CLIENTS: folder, POSTRIDER_TENANT_HOST_PATTERN: '*.gw.invalid' });

const TABLE = `create table orders (id integer primary key, sku text, cost text);
insert into orders (sku, cost) values ('a-1', 'for us alone'), ('b-2', 'for us alone')`;

/** Adds the client `shop` in the console and stays on its page; gives the headers of its callers. */
async function client(site, ada) {
  await ada.visit('/settings/clients');
  await ada.link('Add Client').first().click();
  await ada.page.getByLabel('Name', { exact: true }).fill('shop');
  await ada.page.getByLabel(/^Address of the database/).fill('sqlite:/etc/passwd');
  await ada.button('Add the client').click();
  await ada.page.locator('#pg_uri-error').waitFor();
  await ada.page.getByLabel(/^Address of the database/).fill(`sqlite:${site.folder}/shop.db`);
  await ada.button('Add the client').click();
  await ada.told('shop is added');
  const key = { name: 'Backend', client_name: 'shop', rights: ['*'] };
  const { api_key } = await site.server.gateway('POST', '/admin/api-keys', key);
  return { 'x-athena-client': 'shop', 'x-athena-key': api_key };
}

const fill = (site, headers) => site.server.gateway('POST', '/gateway/query', { query: TABLE }, headers);

journey('a client is added, and its connection tested', async (site) => {
  const ada = await site.admin();
  const headers = await client(site, ada);
  await ada.button('Test the connection').click();
  await ada.told('the first operation makes it');
  await fill(site, headers);
  await ada.button('Test the connection').click();
  await ada.told('The database answers');
}, { settings });

journey('a public route is previewed, saved, called by a stranger, and its calls are listed', async (site) => {
  const ada = await site.admin();
  await fill(site, await client(site, ada));
  await ada.link('Add a route').click();
  await ada.at('Add a public route');
  const field = (name) => ada.page.locator(`[name="${name}"]`);
  await ada.page.getByLabel('Key', { exact: true }).fill('catalogue');
  await field('fetch.anonymous').check();
  await field('fetch.per_ip_per_second').fill('50');
  await field('fetch.0.table').fill('orders');
  await field('fetch.0.columns').fill('id, sku');
  await field('fetch.0.filters').fill('sku: equals');
  await ada.button('Preview what it opens').click();
  await ada.page.locator('[id="fetch.0.filters-error"]').waitFor();
  await field('fetch.0.filters').fill('sku: eq in');
  await ada.button('Preview what it opens').click();
  const preview = ada.page.locator('section.exposure', { hasText: 'Nothing is saved yet' });
  await preview.getByText('a-1').waitFor();
  assert.ok(!(await preview.innerText()).includes('for us alone'));
  await ada.button('Save').click();
  await ada.told('catalogue is saved');

  const call = async (columns) => {
    const body = JSON.stringify({ table_name: 'orders', columns });
    const headers = { 'content-type': 'application/json' };
    const reply = await fetch(`${site.server.url}/public/catalogue/fetch`, { method: 'POST', headers, body });
    return [reply.status, await reply.text()];
  };
  const [status, text] = await call(['sku']);
  assert.equal(status, 200);
  assert.ok(text.includes('a-1'));
  assert.equal((await call(['cost']))[0], 403);
  const calls = ada.page.locator('section[aria-labelledby=log] tbody tr');
  await until('both calls are listed', async () => { await ada.page.reload(); return (await calls.count()) === 2; });
  await ada.page.getByLabel('Outcome').selectOption('failed');
  await ada.button('Filter').click();
  await ada.page.waitForURL(/calls=failed/);
  assert.equal(await calls.count(), 1);
  await calls.getByText('contract_violation').waitFor();
}, { settings });

journey('a hostname stands for a client', async (site) => {
  const ada = await site.admin();
  const { 'x-athena-key': key, ...named } = await client(site, ada);
  await fill(site, { 'x-athena-key': key, ...named });
  await ada.visit('/settings/hostnames');
  await ada.link('Add Hostname').first().click();
  await ada.page.getByLabel('Label', { exact: true }).fill('shop');
  await ada.button('Add the hostname').click();
  await ada.told('shop.gw.invalid is set up');
  await ada.button('Check again').click();
  await ada.told('Requests to it find their client');

  const headers = { host: 'shop.gw.invalid', 'x-athena-key': key, 'content-type': 'application/json' };
  const status = await new Promise((resolve, reject) => {
    const call = request(`${site.server.url}/gateway/fetch`, { method: 'POST', headers }, (reply) => {
      reply.resume();
      resolve(reply.statusCode);
    });
    call.on('error', reject).end(JSON.stringify({ table_name: 'orders' }));
  });
  assert.equal(status, 200, 'without a header that names the client');
}, { settings });
