import assert from 'node:assert/strict';
import { journey } from '../harness/journey.mjs';
import { PASSWORD } from '../harness/person.mjs';

journey('a link for a new password is good once, and ends the sessions', async (site) => {
  const ada = await site.admin();
  const member = await ada.colleague('Member');
  await ada.visit('/settings/members');
  await ada.page.locator('tr', { hasText: 'member@example.com' }).getByRole('link', { name: /^Edit/ }).click();
  await ada.button('Link for a new password').click();
  const link = await ada.page.locator('.reveal code').innerText();

  const anywhere = await site.person();
  await anywhere.visit(link);
  await anywhere.page.getByLabel('Password').fill('another long password');
  await anywhere.button('Change the password').click();
  await anywhere.page.waitForURL(/\/(settings|login)/);
  assert.equal(await member.get('/settings/webhooks'), 303, 'the session of before has ended');
  assert.equal((await (await site.person()).visit(link)).status(), 404, 'the link is used up');

  const again = await site.person();
  await again.logIn('member@example.com', PASSWORD);
  await again.page.getByRole('alert').waitFor();
  await again.logIn('member@example.com', 'another long password');
  await again.at('Overview');
});

journey('who is deactivated is out at once, and comes back when reactivated', async (site) => {
  const ada = await site.admin();
  const member = await ada.colleague('Member');
  const open = async () => {
    await ada.visit('/settings/members');
    await ada.page.locator('tr', { hasText: 'member@example.com' }).getByRole('link', { name: /^Edit/ }).click();
  };
  await open();
  await ada.button('Deactivate').click();
  await ada.page.getByText('Deactivated').first().waitFor();
  assert.equal(await member.get('/settings/webhooks'), 303);
  await member.logIn('member@example.com');
  await member.page.getByRole('alert').waitFor();
  await open();
  await ada.button('Reactivate').click();
  await ada.at(/./);
  await member.logIn('member@example.com');
  await member.at('Overview');
});

journey('a platform admin turns to another tenant, and sees what is its own', async (site) => {
  const ada = await site.admin();
  await ada.addWebhook({ url: site.receiver.url(), name: 'CRM' });
  await site.server.call('POST', '/v1/tenants', { name: 'Other Ltd' });
  await ada.webhooks();
  await ada.page.getByRole('link', { name: /^Tenant Acme/ }).click();
  await ada.page.locator('tr', { hasText: 'Other Ltd' }).getByRole('button', { name: /^Switch/ }).click();
  await ada.page.getByRole('link', { name: /^Tenant Other Ltd/ }).waitFor();
  await ada.webhooks();
  await ada.page.getByText('No webhooks yet').waitFor();
});
