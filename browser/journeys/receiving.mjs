// Settings ▸ Receivers: what others send is verified, shown, and forwarded.
import assert from 'node:assert/strict';
import { createHmac, randomUUID } from 'node:crypto';
import { journey } from '../harness/journey.mjs';

/** Sends what GitHub sends, signed if there is a secret; gives the status of the answer. */
async function push(url, ref, secret) {
  const body = JSON.stringify({ ref, commits: 1 });
  const headers = { 'content-type': 'application/json', 'x-github-event': 'push', 'x-github-delivery': randomUUID() };
  if (secret) headers['x-hub-signature-256'] = `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`;
  return (await fetch(url, { method: 'POST', headers, body })).status;
}

/** Adds a receiver for GitHub; gives its URL and secret, and stays on its page. */
async function added(ada, forwardTo) {
  await ada.visit('/settings/receivers');
  await ada.page.getByText('No receivers yet').waitFor();
  await ada.link('Add Receiver').first().click();
  await ada.page.getByLabel('Provider', { exact: true }).selectOption('github');
  await ada.page.getByLabel(/^Name/).fill('Code');
  await ada.page.getByLabel(/^Forward to/).fill(forwardTo);
  await ada.button('Add the receiver').click();
  await ada.told('The receiver is added');
  const secret = await ada.page.locator('.reveal .copyable code').innerText();
  return { secret, url: await ada.page.locator('.sunken .copyable code').innerText() };
}

const requests = (ada) => ada.page.locator('section[aria-labelledby=received] tbody tr');

journey('a receiver is added, and what is signed is verified, shown and forwarded', async (site) => {
  const { receiver } = site;
  const ada = await site.admin();
  const { url, secret } = await added(ada, receiver.url('/code'));
  assert.ok((await push(url, 'refs/heads/main', secret)) < 300);
  const forwarded = await receiver.next();
  assert.equal(forwarded.path, '/code');
  assert.deepEqual(JSON.parse(forwarded.body), { ref: 'refs/heads/main', commits: 1 }, 'as it came in');
  assert.ok(forwarded.headers['x-alumia-signature']);

  await ada.page.reload();
  assert.ok(!(await ada.page.content()).includes(secret), 'the secret is not shown again');
  await requests(ada).filter({ hasText: 'Verified' }).filter({ hasText: 'Accepted' }).getByRole('link').click();
  await ada.at('Received request');
  await ada.page.getByText('Somebody with the secret signed this request.').waitFor();
  await ada.page.locator('figure.code', { hasText: 'refs/heads/main' }).waitFor();
  await ada.page.locator('figure.code', { hasText: 'x-github-event' }).waitFor();
});

journey('what is refused is told with its reason, verified again by the right secret, and forwarded again', async (site) => {
  const { receiver } = site;
  const ada = await site.admin();
  const { url } = await added(ada, receiver.url('/code'));
  assert.equal(await push(url, 'refs/heads/unsigned'), 401);
  assert.equal(await push(url, 'refs/heads/main', 'the secret at GitHub'), 401);
  await ada.page.reload();
  await requests(ada).filter({ hasText: 'Refused' }).filter({ hasText: 'signature_mismatch' }).waitFor();
  await requests(ada).filter({ hasText: 'missing_header' }).getByRole('link').click();
  await ada.at('Received request');
  await ada.page.getByText('the provider does not sign').waitFor();
  assert.equal(receiver.deliveries.length, 0, 'what is not believed is not forwarded');

  await ada.link('Code').click();
  await ada.link('Edit').click();
  await ada.page.getByLabel('Secrets to verify with').fill('the secret at GitHub');
  await ada.button('Save').click();
  await ada.told('Code is saved');
  await ada.button('Verify refused ones again').click();
  await ada.told('1 are believed now and forwarded');
  assert.ok((await receiver.next()).body.includes('refs/heads/main'));

  await requests(ada).filter({ hasText: 'Released' }).getByRole('link').click();
  await ada.button('Forward again').click();
  await ada.told('It is on its way again');
  assert.ok((await receiver.next(1)).body.includes('refs/heads/main'));
});
