// What every page must stand: axe's rules, both themes, every width, the keyboard.
import assert from 'node:assert/strict';
import { axe } from './installed.mjs';

export const WIDTHS = { phone: 360, desk: 1280, wall: 2560 };

const HEIGHT = 900;

/** Serious and critical findings of axe on the page as it is. */
export async function axeFindings(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  const grave = violations.filter(({ impact }) => ['serious', 'critical'].includes(impact));
  return grave.map(({ id, help, nodes }) => `${id} (${help}): ${nodes.map((node) => node.html).slice(0, 3).join(' ')}`);
}

/** What reaches over the edge of the window and cannot be scrolled to within itself. */
export async function overflowing(page) {
  return page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    const clips = (element) => element && element !== document.documentElement
      && (['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(element).overflowX) || clips(element.parentElement));
    const over = [...document.body.querySelectorAll('*')].filter((element) => {
      const box = element.getBoundingClientRect();
      return element.checkVisibility() && box.width > 0 && (box.right > width + 1 || box.left < -1) && !clips(element.parentElement)
        && !element.closest('.visually-hidden, .skip');
    });
    const found = over.slice(0, 5).map((element) => element.outerHTML.slice(0, 160));
    const scrolls = document.documentElement.scrollWidth - width;
    return scrolls > 0 ? [`the page is ${scrolls} px too wide`, ...found] : found;
  });
}

/** What can be clicked but not reached by the Tab key; and what has the focus without showing it. */
export async function unreachable(page) {
  const marked = await page.evaluate(() => {
    const active = 'a[href], button, input:not([type=hidden]), select, textarea, summary';
    const isShown = (element) => element.checkVisibility({ visibilityProperty: true }) && !element.closest('details:not([open]) > :not(summary)');
    // The button that the Enter key presses is hidden from everybody; one that can be seen does the same.
    const isForEnter = (element) => element.tabIndex < 0 && element.matches('.visually-hidden[aria-hidden=true]');
    const wanted = [...document.querySelectorAll(active)].filter((element) => isShown(element) && !element.disabled && !isForEnter(element));
    wanted.forEach((element, index) => { element.dataset.reached = `no-${index}`; });
    document.activeElement?.blur();
    return wanted.length;
  });
  const faint = [];
  // Where the page puts the focus at first, the round begins; and some stops, such as the parts of a date, are one element.
  // A third round is for a stop that was passed before anybody looked: a key can be answered before the focus has moved.
  let rounds = 0;
  let last = null;
  for (let stops = 0; rounds < 3 && stops < marked * 5 + 60; stops += 1) {
    await page.keyboard.press('Tab');
    const stop = await page.evaluate(() => {
      const element = document.activeElement;
      if (!element || element === document.body) return null;
      if (element.dataset.reached) element.dataset.reached = 'yes';
      const style = getComputedStyle(element);
      const isSeen = (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== 'none';
      const left = document.querySelectorAll('[data-reached^=no-]').length;
      return { left, isSeen, html: element.outerHTML.replace(/ data-reached="\w+"/, '').slice(0, 160) };
    });
    if (!stop) {
      rounds += 1;
      continue;
    }
    if (!stop.isSeen && stop.html !== last) faint.push(`shows no focus: ${stop.html}`);
    last = stop.html;
    if (stop.left === 0) break;
  }
  const missed = await page.evaluate(() => {
    const radios = (element) => element.type === 'radio' && document.querySelector(`input[name="${element.name}"][data-reached=yes]`);
    const left = [...document.querySelectorAll('[data-reached^=no-]')].filter((element) => !radios(element));
    return left.map((element) => `not reached: ${element.outerHTML.slice(0, 160)}`);
  });
  return [...missed, ...faint];
}

/** With every menu and every detail open. */
async function opened(page, run) {
  await page.evaluate(() => { for (const details of document.querySelectorAll('details')) details.open = true; });
  return run();
}

/** In which width and theme axe looks. */
export const LOOKS = [['phone', 'light'], ['desk', 'light'], ['desk', 'dark']];

/** Has `page` stand all of it; `at` names it in what is found. */
export async function stands(page, at, { keyboard = true, looks = LOOKS } = {}) {
  const found = [];
  const note = (how, findings) => found.push(...findings.map((one) => `${at}, ${how}: ${one}`));
  const look = async (width, colorScheme) => {
    await page.setViewportSize({ width, height: HEIGHT });
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
  };
  if (keyboard) {
    await look(WIDTHS.desk, 'light');
    note('keyboard', await unreachable(page));
  }
  for (const [name, width] of Object.entries(WIDTHS)) {
    await look(width, 'light');
    note(name, await overflowing(page));
  }
  await opened(page, async () => {
    for (const [name, colorScheme] of looks) {
      await look(WIDTHS[name], colorScheme);
      note(`${name}, ${colorScheme}, all open`, [...await axeFindings(page), ...await overflowing(page)]);
    }
  });
  return found;
}

export function nothing(found) {
  assert.equal(found.length, 0, `\n${found.join('\n')}`);
}
