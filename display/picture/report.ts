import { SCRIPT, STYLE } from './page.ts';

/** `missing`: there was nothing to compare with, and nothing was written because this is CI. */
export type MatchStatus = 'matched' | 'different' | 'missing' | 'created' | 'updated';

/** A frame that came on screen while a display was watched. */
export interface ReportFrame {
  /** Since the display was opened. */
  readonly timeMs: number;
  /** How much it changed, as a share of what the largest of them did. */
  readonly changed: number;
}

/** One comparison. Pictures are PNG files, the video is an animated one. */
export interface ReportEntry {
  /** Where it was made: `boot.test.ts > the login prompt appears`. */
  readonly test: string;
  /** The golden picture's name. */
  readonly name: string;
  readonly status: MatchStatus;
  /** The test expected a difference: `different` is a success. Default false. */
  readonly isNegated?: boolean;
  /** What differs, in words; empty when nothing does. */
  readonly explanation: string;
  /** How the pixels reached the screen (`udmabuf`, `shadow`...); null if no display was compared, or it was dark. */
  readonly rung: string | null;
  readonly frames: readonly ReportFrame[];
  readonly expected: Uint8Array | null;
  readonly actual: Uint8Array | null;
  readonly diff: Uint8Array | null;
  readonly video: Uint8Array | null;
}

/** How a bar of the time line shows that hardly anything changed. */
const SMALLEST_BAR = 4;

/** A web page in one file, which asks for nothing outside itself: the comparisons of a run, those that failed first. */
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
<p class="quiet"><kbd>j</kbd> <kbd>k</kbd> next and previous, <kbd>1</kbd> to <kbd>4</kbd> how it is shown, <kbd>←</kbd> <kbd>→</kbd> move the slider</p>
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
<label class="swipe">Left of the line what was expected, right of it what was there <input type="range" min="0" max="100" value="50"></label>
<div class="views">
${figure('expected', isBad ? 'expected' : 'golden picture', expected)}${isBad ? figure('actual', 'actual', actual) : ''}${figure('diff', 'differences in red', diff)}${figure('video', 'what was on screen before', video)}
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
  if (!isNegated || status === 'missing') return `<span class="status ${status}">${status}</span>`;
  // The colours are those of the outcome: a difference was wanted.
  return status === 'different' ? '<span class="status matched">not matched</span>' : '<span class="status different">matched</span>';
}

function modes(index: number, hasBoth: boolean): string {
  const radio = (value: string, label: string, checked = '') => `<label><input type="radio" name="mode${index}" value="${value}"${checked}> ${label}</label>`;
  const choice = hasBoth ? radio('side', 'side by side', ' checked') + radio('slider', 'slider') + radio('blink', 'blink') + radio('diff', 'differences') : '';
  return `<fieldset class="modes"><legend>View</legend>${choice}<label><input type="checkbox" value="pixels"> pixel for pixel</label></fieldset>`;
}

function figure(kind: string, caption: string, png: Uint8Array | null): string {
  if (!png) return '';
  const bytes = Buffer.from(png.buffer, png.byteOffset, png.length);
  // The header's width and height come first in every PNG.
  const [width, height] = [bytes.readUInt32BE(16), bytes.readUInt32BE(20)];
  return `<figure class="${kind}"><img alt="${caption}" width="${width}" style="height: auto" src="data:image/png;base64,${bytes.toString('base64')}"><figcaption>${caption}, ${width}x${height}</figcaption></figure>\n`;
}

/** One bar a frame, as high as what it changed of the screen. */
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
  return [rung === null ? '' : `shown by the rung ${rung}`, last ? `${frames.length} frames in ${(last.timeMs / 1000).toFixed(1)} s` : ''].filter(Boolean).join(', ');
}

function escape(text: string): string {
  const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
  return text.replace(/[&<>"']/g, (character) => entities[character]!);
}
