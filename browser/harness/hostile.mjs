// Texts that must be shown as they are, whatever they look like, and as long as the limits allow.

/** Says so if it runs. */
const RUNS = 'globalThis.__ran=1;alert(1)';

export const MARKUP = [
  `<script>${RUNS}</script>`,
  `"><img src=x onerror="${RUNS}">`,
  `'><svg/onload=${RUNS}>`,
  `</code></pre></td></table><h1>broken out`,
  `{{7*7}} {% raw %} \${7*7} &lt;b&gt; &amp;`,
  `javascript:${RUNS}`,
  `" autofocus onfocus="${RUNS}" x="`,
];

export const DIRECTIONS = '\u202Etxt.exe\u202C אבג دفع العميل \u2067rtl\u2069 e\u0301\u0301\u0301 👩‍👩‍👧‍👦 \u200B\uFEFF';

/** Without a place to break. */
export const long = (chars) => 'W'.repeat(chars);

/** Text of at most `chars`, from the worst of all. */
export const name = (n, chars = 120) => [...`${MARKUP[n % MARKUP.length]} ${DIRECTIONS} ${long(chars)}`].slice(0, chars).join('');

/** Bytes that are no text, as an endpoint may answer. */
export const BINARY = Buffer.from(Array.from({ length: 2048 }, (_, n) => (n * 37) % 256));

/** Every page's answer to whether anything of that ran. */
export const ran = (page) => page.evaluate(() => globalThis.__ran === 1);

/** What the page shows must be text: elements that only our texts could have made. */
export const brokenOut = (page) => page.evaluate(() => {
  const made = document.querySelectorAll('main img[src="x"], main svg[onload], [onerror], [onload], [onfocus], script:not([src])');
  const heading = [...document.querySelectorAll('h1')].filter((one) => one.textContent.trim() === 'broken out');
  return [...made, ...heading].map((one) => one.outerHTML.slice(0, 160));
});
