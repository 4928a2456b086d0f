// What must never happen in a page: an error in the console, a report of the content security policy, a dialog, a page
// that does not load.

/** An answer that a journey provokes is no problem of the page; the browser's console names it all the same. */
const PROVOKED = /^Failed to load resource: the server responded with a status of 4\d\d /;

export class Watch {
  problems = [];

  /** `ours`: gives what addresses of our pages start with. What an identity provider's pages do is its own affair. */
  constructor(ours) {
    this.ours = ours;
  }

  /** Watches every page of a browser's context from now on. */
  async over(context) {
    await context.exposeBinding('__postriderReports', ({ page }, report) => this.#add(page, `policy: ${report}`));
    await context.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (event) => {
        globalThis.__postriderReports(`${event.violatedDirective} by ${event.blockedURI} (${event.sourceFile})`);
      });
    });
    context.on('page', (page) => this.#page(page));
  }

  #page(page) {
    page.on('console', (message) => {
      const isOfPage = page.frames().some((frame) => frame.url() === message.location().url);
      const provoked = PROVOKED.test(message.text()) && isOfPage;
      if (['error', 'warning'].includes(message.type()) && !provoked) {
        this.#add(page, `console: ${message.text()} (${message.location().url})`);
      }
    });
    page.on('pageerror', (error) => this.#add(page, `exception: ${error}`));
    page.on('dialog', (dialog) => {
      this.#add(page, `dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
    page.on('response', (response) => {
      if (response.status() >= 500) this.#add(page, `answered ${response.status()}: ${response.url()}`);
    });
  }

  #add(page, what) {
    if (this.ours().some((start) => page.url().startsWith(start))) this.problems.push(`${page.url()}: ${what}`);
  }
}
