// Every page that can be reached: from the navigation, link by link.

/** What is no page of the console, or leaves it. */
const NO_PAGE = [/^\/settings\/audit-log\/export/, /^\/login/, /^\/logout/, /^\/docs/];

/** Pages of one kind have one name: what names a thing is a star in it. */
export function kind(address) {
  const url = new URL(address);
  const isName = (part) => /\d/.test(part) || part.length > 24;
  const path = url.pathname.split('/').map((part) => (isName(part) ? '*' : part)).join('/');
  const keys = [...new Set(url.searchParams.keys())].sort().join('&');
  return keys ? `${path}?${keys}` : path;
}

/**
 * Visits one page of each kind and calls `at` with its kind and address. Links are followed as the person sees them, so a
 * page that is added is visited once the navigation, or another page, leads to it.
 */
export async function walk(person, at, { from = ['/settings'], beside = [] } = {}) {
  const { page, site } = person;
  const open = [...from, ...beside].map((path) => site.url + path);
  const seen = new Map();
  while (open.length) {
    const address = open.shift();
    if (seen.has(kind(address))) continue;
    seen.set(kind(address), address);
    const answer = await page.goto(address);
    // The start leads elsewhere.
    seen.set(kind(page.url()), page.url());
    if (answer.status() !== 200) throw new Error(`${address} answered ${answer.status()}`);
    const links = await page.locator('a[href]:not([download])').evaluateAll((all) => all.map((one) => one.href.split('#')[0]));
    const ours = links.filter((link) => link.startsWith(`${site.url}/`) && !NO_PAGE.some((no) => no.test(new URL(link).pathname)));
    open.push(...ours);
    await at(kind(page.url()), page.url());
  }
  return [...seen.keys()];
}
