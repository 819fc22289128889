/** The page's style sheet: inline, allowed by its hash alone. System fonts and colours that hold WCAG AA in both schemes. */
export const style = `
:root {
  color-scheme: light dark;
  --page: #f5f7f9; --card: #fff; --line: #dde3e9; --text: #17212b; --soft: #53616f; --link: #0b5cad;
  --good: #17663a; --good-back: #e1f4e8; --warn: #7a4b00; --warn-back: #fdf0d5; --bad: #a31621; --bad-back: #fde7e8;
  --idle: #45525f; --idle-back: #e8edf1;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #10161c; --card: #182029; --line: #2b3642; --text: #e6ecf2; --soft: #9fafbe; --link: #7db8f5;
    --good: #7fdca4; --good-back: #12341f; --warn: #f5c469; --warn-back: #3a2a08; --bad: #ff9ea3; --bad-back: #43161a;
    --idle: #b4c1cd; --idle-back: #26313c;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
header, main, footer { max-width: 68rem; margin: 0 auto; padding: 0 1.25rem; }
header { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: baseline; padding-top: 1.5rem; }
header b { font-size: 1.05rem; }
header .asof { color: var(--soft); font-size: .875rem; margin-left: auto; }
h1 { font-size: clamp(1.5rem, 1.1rem + 2vw, 2.1rem); line-height: 1.2; letter-spacing: -.01em; margin: 0; text-wrap: balance; }
h2 { font-size: 1.05rem; margin: 2.25rem 0 .75rem; }
h3 { font-size: 1.05rem; margin: 0; overflow-wrap: anywhere; }
p { margin: .25rem 0; }
a { color: var(--link); text-underline-offset: .15em; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.verdict { margin: 1rem 0 0; padding: 1.25rem 1.5rem; border-radius: .75rem; border: 1px solid var(--line); border-left: .5rem solid var(--idle); background: var(--card); }
.verdict p { color: var(--soft); max-width: 72ch; margin-top: .5rem; }
.verdict.good { border-left-color: var(--good); } .verdict.warn { border-left-color: var(--warn); } .verdict.bad { border-left-color: var(--bad); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 25rem), 1fr)); gap: 1rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: 1rem 1.25rem; }
.card section + section { border-top: 1px solid var(--line); margin-top: .9rem; padding-top: .9rem; }
.card h4 { display: flex; gap: .6rem; align-items: baseline; justify-content: space-between; font-size: .95rem; font-weight: 500; color: var(--soft); margin: .5rem 0 .25rem; overflow-wrap: anywhere; }
.card dl, .facts { display: grid; grid-template-columns: max-content 1fr; gap: .15rem .9rem; margin: .5rem 0; font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; }
.badge { display: inline-block; white-space: nowrap; border-radius: 1rem; padding: .05rem .65rem; font-size: .8rem; font-weight: 600; background: var(--idle-back); color: var(--idle); }
.badge.good { background: var(--good-back); color: var(--good); }
.badge.warn { background: var(--warn-back); color: var(--warn); }
.badge.bad { background: var(--bad-back); color: var(--bad); }
.ago, .note { color: var(--soft); font-size: .85em; }
time { font-variant-numeric: tabular-nums; white-space: nowrap; }
.ago { white-space: nowrap; }
.name { font-weight: 600; color: var(--text); overflow-wrap: anywhere; }
code { font: .8rem ui-monospace, "SF Mono", Menlo, Consolas, monospace; color: var(--soft); white-space: nowrap; }
tbody th { font-weight: 400; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .75rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .55rem .9rem; vertical-align: top; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--soft); font-weight: 500; font-size: .8rem; white-space: nowrap; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; } th.number { text-align: right; }
.empty { background: var(--card); border: 1px dashed var(--line); border-radius: .75rem; padding: 1rem 1.25rem; color: var(--soft); }
progress { width: 6rem; height: .5rem; accent-color: var(--link); vertical-align: middle; }
footer { margin-top: 2.5rem; padding-bottom: 2rem; color: var(--soft); font-size: .875rem; }
footer nav { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin-bottom: .5rem; }
@media (max-width: 44rem) {
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  tr { display: block; padding: .6rem 0; border-top: 1px solid var(--line); } tbody tr:first-child { border-top: 0; }
  td, tbody th, td.number { display: flex; gap: 1rem; justify-content: space-between; text-align: right; border: 0; padding: .15rem .9rem; white-space: normal; }
  td > div, tbody th > div { min-width: 0; }
  td::before, tbody th::before { content: attr(data-label); color: var(--soft); font-weight: 400; text-align: left; flex: none; }
  header .asof { margin-left: 0; width: 100%; }
}
`
