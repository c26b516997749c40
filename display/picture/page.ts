/** What every report looks like and does; the browser's side of report.ts, which has no other script or style. */
export const STYLE = `
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

/** j and k go from one comparison to the next, 1 to 4 choose how it is shown; the slider is a range input. */
export const SCRIPT = `
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
