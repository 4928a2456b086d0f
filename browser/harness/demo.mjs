// A deployment as a customer's might look: Fernhill Supply sells kitchens' equipment, and tells its own systems and its
// partners' about orders, shipments and invoices. What is random is seeded.
import { createHmac } from 'node:crypto';
import { until } from './until.mjs';

const MAYA = { name: 'Maya Lindqvist', email: 'maya@fernhill.example', organisation: 'Fernhill Supply' };

const TEAM = [
  ['tomas@fernhill.example', 'Admin', 'Tomás Rivera'],
  ['aiko@fernhill.example', 'Member', 'Aiko Tanaka'],
  ['priya@fernhill.example', 'Viewer', 'Priya Nair'],
];

const TYPES = [
  ['order.placed', 'Orders', 'A customer has placed an order.'],
  ['order.paid', 'Orders', 'The payment of an order was captured.'],
  ['order.canceled', 'Orders', 'An order was canceled before it was shipped.'],
  ['shipment.dispatched', 'Shipments', 'A parcel has left the warehouse.'],
  ['shipment.delivered', 'Shipments', 'The carrier has handed a parcel over.'],
  ['shipment.delayed', 'Shipments', 'The carrier expects a parcel later than promised.'],
  ['invoice.issued', 'Invoices', 'An invoice was made out and sent.'],
  ['invoice.paid', 'Invoices', 'An invoice is paid in full.'],
  ['invoice.overdue', 'Invoices', 'An invoice is not paid seven days after it was due.'],
  ['customer.created', 'Customers', 'A customer has opened an account.'],
];

/** Name, path at the receiver, what it is called in pictures, events, dialect, description. */
const WEBHOOKS = [
  ['Data warehouse', '/ingest', 'https://ingest.fernhill.example/events', [], 'standard', 'Everything, for the nightly reports'],
  ['Accounting', '/ledger', 'https://ledger.fernhill.example/hooks/postrider', ['invoice.*', 'order.paid'], 'athenty', 'Books payments and reminders'],
  ['Northline Couriers', '/northline', 'https://partners.northline.example/v2/fernhill', ['order.paid', 'order.canceled'], 'standard', 'Our carrier: picks up what is paid'],
  ['Customer messages', '/messages', 'https://messages.fernhill.example/hooks/orders', ['order.placed', 'shipment.*'], 'athenty', 'E-mails and texts about orders and parcels'],
  ['Old inventory system', '/inventory', 'https://inventory.fernhill.example/notify', ['shipment.dispatched'], 'standard', 'Switched off until the move is done'],
];

const TEXT = { type: 'string' };
const MONEY = { type: 'object', required: ['amount', 'currency'], properties: { amount: TEXT, currency: TEXT } };
const ITEM = { type: 'object', required: ['name'], properties: { name: TEXT, quantity: { type: 'integer', minimum: 1 } } };

/** What the data of types looks like, by their first word. */
const MEMBERS = {
  order: { order: TEXT, customer: TEXT, items: { type: 'array', items: ITEM }, total: MONEY },
  shipment: { order: TEXT, carrier: TEXT, parcel: TEXT, to: TEXT, pieces: { type: 'integer', minimum: 1 } },
  invoice: { invoice: TEXT, order: TEXT, customer: TEXT, total: MONEY, due: { type: 'string', format: 'date' } },
  customer: { customer: TEXT, city: TEXT, plan: { enum: ['Trade', 'Trade plus'] } },
};

/** Webhooks of a customer's, who has them in the portal: name, path, what it is called in pictures, events. */
const OF_A_CUSTOMER = [
  ['Kitchen display', '/calypso/kitchen', 'https://kitchen.calypso.example/fernhill', ['shipment.*']],
  ['Bookkeeping', '/calypso/books', 'https://books.calypso.example/hooks/fernhill', ['invoice.*']],
];

/** Where the provider of cards' payments is forwarded to. */
const PAYMENTS = ['/payments', 'https://payments.fernhill.example/hooks/stripe'];

const CUSTOMERS = ['Bistro Calypso', 'Harbour Street Bakery', 'Café Nordlys', 'Trattoria Olmo', 'The Copper Kettle', 'Hotel Belvedere'];
const GOODS = ['Convection oven CX-6', 'Stand mixer 20 l', 'Induction range 4 kW', 'Blast chiller 5 GN', 'Espresso grinder', 'Dough sheeter 500'];
const CITIES = ['Leeds', 'Bergen', 'Porto', 'Bologna', 'Graz', 'Gdańsk'];

/** The same numbers each time. */
function dice(seed) {
  let state = seed;
  const next = (sides) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * sides);
  };
  return { next, of: (list) => list[next(list.length)] };
}

function data(type, n, roll) {
  const order = `FS-${20417 + n}`;
  const amount = { amount: `${80 + roll.next(4200)}.${10 + roll.next(90)}`, currency: 'EUR' };
  const customer = roll.of(CUSTOMERS);
  switch (type.split('.')[0]) {
    case 'order': return { order, customer, items: [{ name: roll.of(GOODS), quantity: 1 + roll.next(3) }], total: amount };
    case 'shipment': return { order, carrier: 'Northline', parcel: `NL${730000 + n}`, to: roll.of(CITIES), pieces: 1 + roll.next(4) };
    case 'invoice': return { invoice: `INV-${8800 + n}`, order, customer, total: amount, due: '2026-12-15' };
    default: return { customer, city: roll.of(CITIES), plan: roll.of(['Trade', 'Trade plus']) };
  }
}

const HOUR = 3_600_000;
/** How long the carrier has had trouble, and messages sometimes. */
const TROUBLE = { '/northline': 2.5 * HOUR, '/messages': HOUR };
/** What the deployment has seen, where it is given a clock: a day but a little, so that the session of its beginning lasts. */
export const DAY = 23 * HOUR;
const STEP = HOUR / 4;

const WELL = { status: 200, body: '{"received":true}' };

/** Answers as endpoints do: mostly well. The carrier has trouble today. */
function answers(clock) {
  let calls = 0;
  return (path) => {
    calls += 1;
    if (clock && clock.behind > TROUBLE[path]) return WELL;
    if (path === '/northline') return { status: 503, body: '{"error":"maintenance until 06:00 UTC"}' };
    if (path === '/messages' && calls % 7 === 0) return { status: 500, body: '{"error":"template not found"}' };
    return WELL;
  };
}

/** What the deployment's server is started with. */
export const settings = ({ folder }) => ({
  POSTRIDER_SQLITE_CLIENTS: folder,
  POSTRIDER_TENANT_HOST_PATTERN: '*.gw.fernhill.example',
});

/**
 * The deployment at the site, with its admin logged in. `how`: options of her browser. `clock`: the server's, which is a
 * `DAY` late and right in the end.
 */
export async function demo(site, how, clock) {
  site.receiver.answer = answers(clock);
  const maya = await site.person(how);
  await maya.setUp(await site.server.setUpLink(), MAYA);
  const { server } = site;
  const [tenant] = (await server.call('GET', '/v1/tenants')).items;
  const shop = await configured(site, tenant.id);
  await published(server, tenant.id, clock ? DAY / STEP * 8 : 60, clock);
  await received(server, shop);
  await gateway(site);
  await customer(site, tenant.id);
  await team(site, maya);
  await settled(server, tenant.id);
  return maya;
}

async function described(server, tenant_id) {
  for (const [name, group, description] of TYPES) {
    const properties = MEMBERS[name.split('.')[0]];
    const schema = { type: 'object', required: Object.keys(properties).slice(0, 2), properties };
    const example = data(name, 1, dice(1));
    await server.call('PUT', `/v1/event-types/${name}?tenant_id=${tenant_id}`, { group, description, schema, example });
  }
}

/** Webhooks, types, keys; gives the path at which the shop's provider sends. */
async function configured({ server, receiver }, tenant_id) {
  for (const name of ['Fernhill Outlet', 'Fernhill Nordic']) await server.call('POST', '/v1/tenants', { name });
  await described(server, tenant_id);
  // The list shows the newest first: what sends stands above what receives.
  await server.call('POST', '/v1/webhooks', {
    tenant_id, name: 'Card payments', url: receiver.url(PAYMENTS[0]), events: ['payment_intent.*'], dialect: 'alumia',
    description: 'What customers pay by card', receiver: { source: 'stripe', secret: 'the card company and we know it' },
  });
  const shop = await server.call('POST', '/v1/webhooks', {
    tenant_id, name: 'Online shop', events: [], receiver: { source: 'shopify', secret: SHOP_SECRET },
  });
  for (const [name, path, , events, dialect, description] of [...WEBHOOKS].reverse()) {
    // The carrier's deliveries are given up soon, so that failed ones are to be seen.
    const retry = path === '/northline' ? { max_attempts: 1 } : undefined;
    const made = await server.call('POST', '/v1/webhooks', {
      tenant_id, name, url: receiver.url(path), events, dialect, description, retry,
    });
    if (path === '/inventory') await server.call('POST', `/v1/webhooks/${made.id}/disable`);
  }
  const keys = [['Storefront', 'member', ['events:write']], ['Warehouse sync', 'member', []], ['Reporting', 'viewer', []]];
  for (const [name, role, scopes] of keys) await server.call('POST', '/v1/api-keys', { tenant_id, name, role, scopes });
  return new URL(shop.receiver.receive_url).pathname;
}

/** Events of all kinds; with a clock, a quarter of an hour's at a time, until it is right. */
async function published(server, tenant_id, length, clock) {
  const roll = dice(7);
  const events = Array.from({ length }, (_, n) => {
    const [type] = roll.of(TYPES);
    return { type, data: data(type, n, roll) };
  });
  // In handfuls, as they come.
  while (events.length) {
    const handful = clock && clock.behind > 0 ? 3 + roll.next(10) : 10;
    await server.call('POST', '/v1/events', { tenant_id, events: events.splice(0, handful) });
    if (clock && clock.behind > 0) {
      await until('everything has been tried', async () => {
        const { items } = await server.call('GET', `/v1/deliveries?tenant_id=${tenant_id}&status=pending&limit=100`);
        return items.every(({ attempt_count }) => attempt_count > 0);
      });
      clock.set(Math.max(0, clock.behind - STEP));
    }
  }
}

const SHOP_SECRET = 'the shop and we know it';

/** The shop's orders come in from its provider; somebody else has found the address. */
async function received(server, path) {
  for (let n = 0; n < 6; n += 1) {
    const body = JSON.stringify({ id: 820982911 + n, name: `#${1001 + n}`, total_price: `${149 + 20 * n}.00`, currency: 'EUR' });
    const signature = createHmac('sha256', n === 4 ? 'a guess' : SHOP_SECRET).update(body).digest('base64');
    const headers = {
      'content-type': 'application/json',
      'x-shopify-topic': n % 2 ? 'orders/paid' : 'orders/create',
      'x-shopify-webhook-id': `b54557e4-bdd9-4b37-8a5f-bf7d70bcd04${n}`,
      'x-shopify-hmac-sha256': signature,
    };
    await fetch(server.url + path, { method: 'POST', headers, body });
  }
}

/** The shop's database, of which some is open to its pages. */
async function gateway({ server, folder }) {
  const admin = (method, path, body) => server.gateway(method, `/admin/${path}`, body);
  await admin('POST', 'clients', {
    client_name: 'storefront', pg_uri: `sqlite:${folder}/storefront.db`, description: 'What the online shop sells',
  });
  await admin('POST', 'clients', {
    client_name: 'trade-desk', pg_uri: 'postgres://postrider:kept@db.fernhill.example:5432/trade?sslmode=verify-full',
    description: 'Offers and contracts of trade customers',
  });
  const key = { name: 'Shop backend', client_name: 'storefront', rights: ['*'] };
  const { api_key } = await admin('POST', 'api-keys', key);
  const rows = GOODS.map((name, n) => `('FS-${100 + n}', '${name}', ${490 + 310 * n}, ${300 + 190 * n})`);
  const query = `create table products (id integer primary key, sku text, name text, price integer, cost integer);
    create table readers (id integer primary key, email text, source text);
    insert into products (sku, name, price, cost) values ${rows.join()}`;
  await server.gateway('POST', '/gateway/query', { query }, { 'x-athena-client': 'storefront', 'x-athena-key': api_key });

  const often = { anonymous: true, rate: { per_ip_per_second: 20, per_route_per_second: 200 } };
  const products = {
    columns: ['id', 'sku', 'name', 'price'], filters: { sku: ['eq', 'in'] }, sorts: ['price'], max_rows: 50,
  };
  const readers = { columns: ['email'], set: { source: 'shop' }, returning: ['id'] };
  const cors = { origins: ['https://shop.fernhill.example'] };
  for (const [route_key, op, tables] of [['catalogue', 'fetch', { products }], ['newsletter', 'insert', { readers }]]) {
    const contract = { [op]: { ...often, tables } };
    await admin('POST', 'public-routes', {
      route_key, client_name: 'storefront', allowed_ops: [op], metadata: { contract, cors },
    });
  }
  await admin('PUT', 'tenant-hostnames/storefront', { allowed_ops: ['fetch'] });
  for (const columns of [['sku', 'price'], ['name', 'price'], ['sku', 'cost'], ['id', 'sku', 'name', 'price']]) {
    const body = JSON.stringify({ table_name: 'products', columns });
    const headers = { 'content-type': 'application/json' };
    await fetch(`${server.url}/public/catalogue/fetch`, { method: 'POST', headers, body });
  }
}

/** A customer with webhooks of its own; in the portal is somebody of theirs, and somebody of the tenant that is shown. */
async function customer(site, shown) {
  const { server, receiver } = site;
  const { id: tenant_id } = await server.call('POST', '/v1/tenants', { name: CUSTOMERS[0] });
  await described(server, tenant_id);
  for (const [name, path, , events] of OF_A_CUSTOMER) {
    await server.call('POST', '/v1/webhooks', { tenant_id, name, url: receiver.url(path), events, dialect: 'standard' });
  }
  await published(server, tenant_id, 30);
  for (const [tenant, role] of [[tenant_id, 'admin'], [shown, 'member']]) {
    const person = await guest(site, tenant, role);
    await person.context.close();
  }
}

/** Somebody who has come into the portal of a tenant. */
async function guest(site, tenant_id, role, how) {
  const { url } = await site.server.call('POST', '/v1/portal-sessions', { tenant_id, role });
  const person = await site.person(how);
  await person.visit(url);
  await person.at('Webhooks');
  return person;
}

/** Somebody of the customer's, in the portal. */
export async function chef(site, how) {
  const { items } = await site.server.call('GET', '/v1/tenants');
  return guest(site, items.find(({ name }) => name === CUSTOMERS[0]).id, 'admin', how);
}

async function team(site, maya) {
  for (const [email, role, name] of TEAM) {
    const link = await maya.invite(email, role, name);
    const person = await site.person();
    await person.acceptInvitation(link, name);
    await person.context.close();
  }
  await maya.invite('jonas@fernhill.example', 'Member', 'Jonas Weber');
  await maya.webhooks();
}

/** Until whatever goes well is done. */
async function settled(server, tenant_id) {
  const states = async (status) => {
    const { items } = await server.call('GET', `/v1/deliveries?tenant_id=${tenant_id}&status=${status}&limit=200`);
    return items.length;
  };
  await until('the deliveries have ended', async () => (await states('succeeded')) > 80 && (await states('failed')) > 3);
}

/** What addresses and places on this machine are called in pictures. */
export function disguises({ receiver, url, folder }) {
  const hooks = [...WEBHOOKS, ...OF_A_CUSTOMER].map(([, path, shown]) => [receiver.url(path), shown]);
  const places = [[url, 'https://hooks.fernhill.example'], [folder, '/var/lib/fernhill/clients']];
  return [...hooks, [receiver.url(PAYMENTS[0]), PAYMENTS[1]], ...places];
}
