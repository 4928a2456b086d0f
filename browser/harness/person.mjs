// Somebody at a browser, and what people do in the console.
import assert from 'node:assert/strict';

export const PASSWORD = 'correct horse battery';

export class Person {
  /** Where the pages of webhooks are: of the console, or of the portal. */
  base = '/settings';

  constructor(site, context, page) {
    this.site = site;
    this.context = context;
    this.page = page;
  }

  /** Opens a page and gives the answer that it is. */
  async visit(path) {
    return this.page.goto(path.startsWith('http') ? path : this.site.url + path);
  }

  /** The same person, within the frame that the page has: in the portal. */
  inFrame() {
    const [, frame] = this.page.frames();
    return Object.assign(new Person(this.site, this.context, frame), { base: '/portal' });
  }

  button(name, within = this.page) {
    return within.getByRole('button', { name, exact: true });
  }

  link(name, within = this.page) {
    return within.getByRole('link', { name, exact: true });
  }

  heading() {
    return this.page.getByRole('heading', { level: 1 });
  }

  /** Waits for what the page says after something was done. */
  async told(text) {
    await this.page.getByRole('status').filter({ hasText: text }).waitFor();
  }

  /** Waits for the page with that heading. */
  async at(title) {
    await this.page.getByRole('heading', { level: 1, name: title }).waitFor();
  }

  async setUp(link, { name = 'Ada Lovelace', email = 'ada@example.com', organisation = 'Acme Financial Group' } = {}) {
    await this.visit(link);
    await this.page.getByLabel('Your name').fill(name);
    await this.page.getByLabel('E-mail').fill(email);
    await this.page.getByLabel('Organisation').fill(organisation);
    await this.page.getByLabel('Password').fill(PASSWORD);
    await this.button('Create the account').click();
    await this.told('Postrider is set up');
    this.email = email;
  }

  async logIn(email, password = PASSWORD) {
    await this.visit('/login');
    await this.page.getByLabel('E-mail').fill(email);
    await this.page.getByLabel('Password').fill(password);
    await this.button('Log in').click();
    this.email = email;
  }

  /** Invites somebody and gives the link. */
  async invite(email, role, name = '') {
    await this.visit('/settings/members/invite');
    await this.page.getByLabel('E-mail').fill(email);
    if (name) await this.page.getByLabel(/^Name/).fill(name);
    await this.page.getByRole('radio', { name: new RegExp(`^${role}`) }).check();
    await this.button('Invite').click();
    await this.at('Members');
    return this.page.locator('.reveal code').innerText();
  }

  async acceptInvitation(link, name) {
    await this.visit(link);
    await this.page.getByLabel('Your name').fill(name);
    await this.page.getByLabel('Password').fill(PASSWORD);
    await this.button('Accept').click();
    await this.page.waitForURL('**/settings/**');
  }

  /** A colleague in a browser of his own, invited by us. */
  async colleague(role, how) {
    const name = `${role} ${role}son`;
    const link = await this.invite(`${role.toLowerCase()}@example.com`, role, name);
    const person = await this.site.person(how);
    await person.acceptInvitation(link, name);
    person.email = `${role.toLowerCase()}@example.com`;
    return person;
  }

  /** Adds a webhook through the form; gives its secret and the snippet that the page shows, and stays on that page. */
  async addWebhook({ url, name = '', events = [], dialect = 'athenty', description = '' }) {
    await this.visit(`${this.base}/webhooks/new`);
    await this.page.getByLabel('URL').fill(url);
    if (name) await this.page.getByLabel(/^Name/).fill(name);
    if (description) await this.page.getByLabel(/^Description/).fill(description);
    if (events.length) await this.page.locator('[name=patterns]').fill(events.join(', '));
    // In the portal it is not the customer's to choose.
    if (this.base === '/settings') await this.page.getByLabel('Dialect').selectOption(dialect);
    await this.button('Save').click();
    return this.shownSecret();
  }

  /** What the page after an addition or a rotation shows once. */
  async shownSecret() {
    await this.at('Signing secret');
    const secret = await this.page.locator('.reveal .copyable code').innerText();
    const snippet = this.page.locator('figure.code code');
    const id = new URL(this.page.url()).pathname.split('/')[3];
    return { id, secret, snippet: (await snippet.count()) ? await snippet.innerText() : undefined };
  }

  /** The webhook's row in the list. */
  row(name) {
    return this.page.locator('article.webhook').filter({ has: this.page.getByRole('heading', { name, exact: true }) });
  }

  async webhooks() {
    await this.visit(`${this.base}/webhooks`);
    await this.at('Webhooks');
  }

  /** Chooses from the menu of a webhook's row. */
  async choose(name, item) {
    const row = this.row(name);
    const menu = row.locator('details.actions');
    if (!(await menu.evaluate((details) => details.open))) await menu.locator('summary').click();
    await menu.getByRole('button', { name: item, exact: true }).or(menu.getByRole('link', { name: item, exact: true })).click();
  }

  /** The token of our own forms. */
  async csrf() {
    const token = await this.page.locator('input[name=csrf]').first().getAttribute('value');
    assert.ok(token, 'the page has a form');
    return token;
  }

  /** Sends a form past the page, as somebody does who knows the address; gives the status. */
  async post(path, fields = {}) {
    const form = { csrf: await this.csrf(), ...fields };
    const reply = await this.context.request.post(this.site.url + path, { form, maxRedirects: 0 });
    return reply.status();
  }

  async get(path) {
    return (await this.context.request.get(this.site.url + path, { maxRedirects: 0 })).status();
  }
}
