import { pngSize } from './png.ts';

/** `missing`: there was no golden picture, and none may be written (in CI). */
export type MatchStatus = 'matched' | 'different' | 'missing' | 'created' | 'updated';

/** A frame that came on screen while a display was open. */
export interface ReportFrame {
  /** Since the first frame, 0 or more. */
  readonly timeMs: number;
  /** How much it changed, as a share of the largest change, 0 to 1. */
  readonly changed: number;
}

/** One comparison. Pictures are PNG files, the video is an animated one. */
export interface ReportEntry {
  /** The test that compared: `boot.test.ts > the login prompt appears`. */
  readonly test: string;
  /** The golden picture's name. */
  readonly name: string;
  readonly status: MatchStatus;
  /** The test expected a difference: `different` is a success. Default false. */
  readonly isNegated?: boolean;
  /** What differs, in words; empty if nothing does. */
  readonly explanation: string;
  /** How the pixels reached the screen: `udmabuf`, `shadow`, …; null if a picture was compared, or nothing was shown. */
  readonly rung: string | null;
  readonly frames: readonly ReportFrame[];
  readonly expected: Uint8Array | null;
  readonly actual: Uint8Array | null;
  readonly diff: Uint8Array | null;
  readonly video: Uint8Array | null;
}

/** The height of a bar in the time line, in per cent, for a frame that changed hardly anything. */
const SMALLEST_BAR = 4;

/** The comparisons of a run as one HTML file that loads nothing else; failures come first. */
export function renderReport(entries: readonly ReportEntry[], title: string): string {
  const sorted = [...entries].sort((a, b) => Number(isFailure(b)) - Number(isFailure(a)));
  const bad = entries.filter(isFailure).length;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>${bad > 0 ? `${bad} failed: ` : ''}${escape(title)}</title>
<style>${STYLE}</style>
<header>
<h1>${escape(title)}</h1>
<p>${entries.length} compared, <span class="${bad > 0 ? 'different' : 'matched'}">${bad} failed</span></p>
<p class="quiet"><kbd>j</kbd> <kbd>k</kbd> next and previous, <kbd>1</kbd> to <kbd>4</kbd> change the view, <kbd>←</kbd> <kbd>→</kbd> move the slider</p>
</header>
<nav aria-label="Comparisons"><ol>
${sorted.map((entry, index) => `<li>${badge(entry)} <a href="#c${index}">${escape(heading(entry))}</a></li>`).join('\n')}
</ol></nav>
<main>
${sorted.map(section).join('\n')}
</main>
<script>${SCRIPT}</script>
</html>
`;
}

function section(entry: ReportEntry, index: number): string {
  const { explanation, rung, frames, expected, actual, diff, video } = entry;
  const isBad = isFailure(entry);
  return `<details id="c${index}"${isBad ? ' open' : ''}>
<summary>${badge(entry)} <h2>${escape(heading(entry))}</h2></summary>
<div class="body">
${explanation ? `<p class="explanation">${escape(explanation)}</p>` : ''}
${modes(index, expected !== null && actual !== null && isBad)}
<label class="swipe">Expected to the left of the line, actual to the right <input type="range" min="0" max="100" value="50"></label>
<div class="views">
${figure('expected', isBad ? 'expected' : 'golden picture', expected)}${isBad ? figure('actual', 'actual', actual) : ''}${figure('diff', 'differences in red', diff)}${figure('video', 'video of the screen before', video)}
</div>
${timeLine(frames)}
<p class="quiet">${escape(facts(rung, frames))}</p>
</div>
</details>`;
}

function heading({ test, name }: ReportEntry): string {
  return `${test}: ${name}`;
}

function isFailure({ status, isNegated = false }: ReportEntry): boolean {
  return status === 'missing' || status === (isNegated ? 'matched' : 'different');
}

function badge({ status, isNegated = false }: ReportEntry): string {
  if (!isNegated || status === 'missing') return `<span class="status ${escape(status)}">${escape(status)}</span>`;
  // The colours are those of the outcome: a difference was wanted.
  return status === 'different'
    ? '<span class="status matched">not matched</span>'
    : '<span class="status different">matched</span>';
}

function modes(index: number, hasBoth: boolean): string {
  const radio = (value: string, label: string, checked = '') =>
    `<label><input type="radio" name="mode${index}" value="${value}"${checked}> ${label}</label>`;
  const choice = hasBoth
    ? radio('side', 'side by side', ' checked') +
      radio('slider', 'slider') +
      radio('blink', 'blink') +
      radio('diff', 'differences')
    : '';
  return `<fieldset class="modes"><legend>View</legend>${choice}<label><input type="checkbox" value="pixels"> pixel for pixel</label></fieldset>`;
}

function figure(kind: string, caption: string, png: Uint8Array | null): string {
  if (!png) return '';
  const bytes = Buffer.from(png.buffer, png.byteOffset, png.length);
  const { width, height } = pngSize(png);
  return `<figure class="${kind}"><img alt="${caption}" width="${width}" style="height: auto" src="data:image/png;base64,${bytes.toString('base64')}"><figcaption>${caption}, ${width}x${height}</figcaption></figure>\n`;
}

/** A bar for each frame, as high as the share of the screen that it changed. */
function timeLine(frames: readonly ReportFrame[]): string {
  const last = frames.at(-1);
  if (!last) return '';
  const spanMs = Math.max(last.timeMs, 1);
  const bars = frames.map(({ timeMs, changed }) => {
    const height = SMALLEST_BAR + changed * (100 - SMALLEST_BAR);
    return `<rect x="${((timeMs / spanMs) * 998).toFixed(1)}" y="${(100 - height).toFixed(1)}" width="2" height="${height.toFixed(1)}"/>`;
  });
  return `<svg class="time" viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" aria-label="When frames came, and how much each changed">${bars.join('')}</svg>`;
}

function facts(rung: string | null, frames: readonly ReportFrame[]): string {
  const last = frames.at(-1);
  return [
    rung === null ? '' : `shown by rung ${rung}`,
    last ? `${frames.length} frames in ${(last.timeMs / 1000).toFixed(1)} s` : '',
  ]
    .filter(Boolean)
    .join(', ');
}

function escape(text: string): string {
  const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
  return text.replace(/[&<>"']/g, (character) => entities[character]!);
}

/** The style of the report. */
const STYLE = `
:root { color-scheme: light dark; --ink: #1c2430; --dim: #5c6775; --paper: #fff; --shade: #f2f4f7; --line: #d5dae1; --bad: #b3261e; --good: #1b6e3c; --new: #8a5a00; --focus: #1a66d6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --dim: #9aa5b4; --paper: #14181e; --shade: #1d232b; --line: #343d49; --bad: #ff8a80; --good: #7bd69c; --new: #f0c060; --focus: #7fb2ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 110rem; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.4rem; }
h2 { display: inline; font-size: 1rem; font-weight: 600; overflow-wrap: anywhere; }
p { margin: .4rem 0; }
a { color: inherit; }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; }
kbd { padding: 0 .35em; border: 1px solid var(--line); border-radius: 4px; background: var(--shade); font: inherit; font-size: .85em; }
nav ol { margin: 1rem 0; padding: 0; list-style: none; columns: 24rem; }
nav li { padding: .1rem 0; break-inside: avoid; }
.status { display: inline-block; min-width: 5.5rem; font-weight: 600; }
.matched { color: var(--good); }
.different, .missing { color: var(--bad); }
.created, .updated { color: var(--new); }
.quiet { color: var(--dim); }
details { margin: 1rem 0; border: 1px solid var(--line); border-radius: 8px; }
summary { padding: .6rem 1rem; border-radius: 8px; background: var(--shade); cursor: pointer; }
.body { padding: .6rem 1rem 1rem; }
.explanation { font-size: 1.05rem; }
.modes { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: .6rem 0; padding: 0; border: 0; }
.modes legend { position: absolute; clip-path: inset(50%); }
.views { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem; overflow: auto; }
figure { margin: 0; min-width: 0; }
figcaption { color: var(--dim); font-size: .9rem; }
.views img { display: block; max-width: 100%; outline: 1px solid var(--line); background: repeating-conic-gradient(#888 0 25%, #aaa 0 50%) 0 0 / 16px 16px; }
.body:has([value=pixels]:checked) .views { display: flex; align-items: start; }
.body:has([value=pixels]:checked) .views figure { flex: none; }
.body:has([value=pixels]:checked) .views img { max-width: none; image-rendering: pixelated; }
.swipe { display: none; }
.body:has([value=slider]:checked) .swipe { display: block; }
.swipe input { width: 100%; margin: .3rem 0; }
.body:has([value=slider]:checked) .views, .body:has([value=blink]:checked) .views { display: grid; grid-template-columns: auto; justify-items: start; }
.body:has([value=slider]:checked) figure, .body:has([value=blink]:checked) figure { grid-area: 1 / 1; }
.body:has([value=slider]:checked) figcaption, .body:has([value=blink]:checked) figcaption { visibility: hidden; }
.body:has([value=slider]:checked) .diff, .body:has([value=blink]:checked) .diff, .body:has([value=slider]:checked) .video, .body:has([value=blink]:checked) .video { display: none; }
.body:has([value=slider]:checked) .actual { clip-path: inset(0 0 0 var(--at, 50%)); }
.body:has([value=blink]:checked) .actual { animation: blink 1s steps(1) infinite; }
@keyframes blink { 50% { opacity: 0; } }
.body:has([value=diff]:checked) .views figure:not(.diff) { display: none; }
.time { display: block; width: 100%; height: 3rem; margin-top: .8rem; border-bottom: 1px solid var(--line); }
.time rect { fill: var(--focus); }
`;

/** The script of the report: j and k move between comparisons, 1 to 4 change the view; the slider is a range input. */
const SCRIPT = `
const comparisons = [...document.querySelectorAll('details')];
const current = () => comparisons.find((each) => each.contains(document.activeElement)) ?? null;
function show(comparison) {
  comparison.open = true;
  const summary = comparison.querySelector('summary');
  summary.focus();
  summary.scrollIntoView({ block: 'start' });
}
addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === 'j' || event.key === 'k') {
    const at = comparisons.indexOf(current());
    const next = comparisons[event.key === 'j' ? at + 1 : at - 1];
    if (next) show(next);
  }
  const mode = (current() ?? comparisons.find((each) => each.open))?.querySelectorAll('.modes [type=radio]')[Number(event.key) - 1];
  if (mode) mode.checked = true;
});
addEventListener('input', ({ target }) => {
  if (target.type === 'range') target.closest('.body').style.setProperty('--at', target.value + '%');
});
function open() {
  const named = comparisons.find(({ id }) => '#' + id === location.hash);
  if (named) show(named);
}
addEventListener('hashchange', open);
open();
`;
