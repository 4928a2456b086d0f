import assert from 'node:assert/strict';
import { journey } from '../harness/journey.mjs';
import { PASSWORD } from '../harness/person.mjs';

journey('the printed link makes the first admin, once', async (site) => {
  const link = await site.server.setUpLink();
  const ada = await site.person();
  await ada.visit(link);
  await ada.page.getByLabel('Your name').fill('Ada Lovelace');
  await ada.page.getByLabel('E-mail').fill('ada@example.com');
  await ada.page.getByLabel('Organisation').fill('Acme Financial Group');
  await ada.page.getByLabel('Password').fill('ada@example.com');
  await ada.button('Create the account').click();
  await ada.page.locator('#password-error').waitFor();
  assert.equal(await ada.page.getByLabel('E-mail').inputValue(), 'ada@example.com', 'what was typed is kept');
  await ada.page.getByLabel('Password').fill(PASSWORD);
  await ada.button('Create the account').click();
  await ada.told('Postrider is set up');

  const late = await site.person();
  assert.equal((await late.visit(link)).status(), 404, 'the link is used up');
});

journey('who logs out is out, and comes back to the page that was asked for', async (site) => {
  const ada = await site.admin();
  await ada.page.locator('details.person summary').click();
  await ada.button('Log out').click();
  await ada.at('Log in');
  await ada.visit('/settings/members');
  await ada.at('Log in');
  await ada.page.getByLabel('E-mail').fill('ada@example.com');
  await ada.page.getByLabel('Password').fill('not the password');
  await ada.button('Log in').click();
  await ada.page.getByRole('alert').waitFor();
  await ada.page.getByLabel('Password').fill(PASSWORD);
  await ada.button('Log in').click();
  await ada.at('Members');
});

journey('the theme that was chosen stays', async (site) => {
  const ada = await site.admin({ colorScheme: 'light' });
  const background = () => ada.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await ada.webhooks();
  const light = await background();
  await ada.page.locator('details.person summary').click();
  await ada.button('Dark').click();
  await ada.page.locator('html[data-theme=dark]').waitFor();
  assert.notEqual(await background(), light);
  await ada.visit('/settings/members');
  assert.notEqual(await background(), light, 'on the next page as well');
});

journey('sessions are listed, and ended by whoever has them', async (site) => {
  const ada = await site.admin();
  const elsewhere = await site.person({ userAgent: 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0' });
  await elsewhere.logIn('ada@example.com');
  await elsewhere.at('Overview');
  await ada.visit('/settings/profile');
  assert.equal(await ada.page.locator('tbody tr').count(), 2);
  await ada.button('End all others').click();
  await ada.page.locator('tbody tr').first().waitFor();
  assert.equal(await ada.page.locator('tbody tr').count(), 1);
  await elsewhere.visit('/settings/webhooks');
  await elsewhere.at('Log in');
});
