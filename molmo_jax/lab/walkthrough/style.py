"""The style sheet of the walkthrough's page. Colours of kinds of tokens are the same in chips, maps
and drawings.
"""

from __future__ import annotations

CSS = """
:root{color-scheme:light dark;--page:#f6f7f8;--card:#fff;--ink:#1c2126;--muted:#5b6570;--line:#dde2e6;--soft:#eef1f4;
--patch:#2f6fb3;--column:#d98a00;--start:#1d8a5b;--end:#b4455e;--text:#7a848e;--answer:#7d4fc4;--bos:#3b444d;
--ahead:#0aa1a8;--warn:#9a5b00;--warnbg:#fff4df}
@media(prefers-color-scheme:dark){:root{--page:#15181b;--card:#1d2125;--ink:#e4e7ea;--muted:#9aa4ae;--line:#333a41;
--soft:#262c32;--patch:#5b9bde;--column:#eab04a;--start:#4fc38d;--end:#e37f96;--text:#8b959f;--answer:#ab86ea;
--bos:#c9d0d6;--ahead:#3cc9cf;--warn:#f0c27a;--warnbg:#3a2f1b}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1180px;padding:28px 20px 64px;font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;
background:var(--page);color:var(--ink);overflow-wrap:anywhere}
h1{font-size:1.55rem;line-height:1.25;margin:0 0 4px}
h2{font-size:1.15rem;margin:44px 0 4px}
h2 b{display:inline-block;min-width:1.7em;color:var(--muted);font-weight:500}
h3{font-size:.9rem;margin:0 0 6px}
p{margin:0 0 12px;max-width:104ch}
.lead,.say{color:var(--muted)}
.say b{color:var(--ink);font-weight:600}
.file{margin:52px 0 -28px;padding-top:14px;border-top:2px solid var(--line);font-size:1.3rem}
code{font:.86em/1.4 ui-monospace,Consolas,"DejaVu Sans Mono",monospace}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(130px,1fr));gap:10px;margin:18px 0 22px}
.facts div{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 14px}
.facts b{display:block;font-size:1.45rem;line-height:1.2;font-variant-numeric:tabular-nums}
.facts span{color:var(--muted);font-size:.82rem}
.panel{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:14px 16px}
.panel+.panel{margin-top:12px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th{font-weight:500;font-size:.8rem;color:var(--muted);text-align:right;padding:0 0 6px 18px;vertical-align:bottom}
td{padding:7px 0 7px 18px;border-top:1px solid var(--line);text-align:right;white-space:nowrap;vertical-align:baseline}
td.n{color:var(--muted);padding-left:0;width:1.8em}
td.step,th.step{text-align:left;font-weight:600;padding-left:10px}
td.note{text-align:left;white-space:normal;color:var(--muted);font-size:.87rem;min-width:240px}
td.v{font-weight:600}
td.under{border:0;padding:0 0 8px 10px}
tr:has(+tr .under) td{padding-bottom:1px}
.note{margin:12px 0 0}
.warn{margin:12px 0 0;padding:8px 12px;border-radius:6px;background:var(--warnbg);color:var(--warn);font-size:.9rem;
max-width:none}
svg{display:block}
svg.fill{width:100%;height:auto;margin:0 auto;border-radius:5px}
svg.defs{position:absolute;width:0;height:0;overflow:hidden}
figure{margin:0}
figcaption{color:var(--muted);font-size:.82rem;margin-top:6px}
.pair{display:grid;grid-template-columns:minmax(0,1.55fr) minmax(0,1fr);gap:18px;align-items:start}
.close{display:grid;grid-template-columns:220px minmax(0,1fr);gap:18px;align-items:center}
.close p{margin:0}
.pair.equal{grid-template-columns:repeat(2,minmax(0,420px))}
.pair img{width:100%;border-radius:5px;display:block}
.frames{display:grid;grid-template-columns:repeat(auto-fill,minmax(128px,1fr));gap:10px}
.frames figure.lastframe svg{outline:3px solid var(--start)}
.frames figcaption{text-align:center;font-variant-numeric:tabular-nums}
.pic *{vector-effect:non-scaling-stroke}
.pic .grid{fill:none;stroke:#fff;stroke-opacity:.55;stroke-width:.8}
.fine{vector-effect:non-scaling-stroke;fill:none;stroke:#fff;stroke-opacity:.35;stroke-width:.7}
.pic .odd{fill:#fff;fill-opacity:.13}
.pic .gone{fill:var(--card);fill-opacity:.82}
.pic .shared{fill:#ffd23f;fill-opacity:.3}
.pic .edge{fill:none;stroke:#fff;stroke-width:1.4;stroke-opacity:.9}
.pic .one{fill:none;stroke:#ff2e63;stroke-width:3}
.pic .straddle{fill:#00d1d9;fill-opacity:.5}
.pic .window{fill:#ff2e63;fill-opacity:.25;stroke:#ff2e63;stroke-width:2.5}
.pic text{font:700 1px system-ui,sans-serif;fill:#fff;paint-order:stroke;stroke:#000;stroke-opacity:.6;
stroke-linejoin:round;vector-effect:none;text-anchor:middle;dominant-baseline:central}
.key{display:flex;flex-wrap:wrap;gap:4px 18px;color:var(--muted);font-size:.82rem;margin:10px 0 0;max-width:none}
.key span{display:inline-flex;align-items:center;gap:6px}
.key i{width:16px;height:12px;border-radius:2px;flex:none;
box-shadow:inset 0 0 0 1px color-mix(in srgb,var(--ink) 25%,transparent)}
.chips{font:13px/1.4 ui-monospace,Consolas,"DejaVu Sans Mono",monospace}
.chips .row{display:flex;flex-wrap:wrap;gap:4px;margin-bottom:4px}
.chips .row.nested{margin-left:22px}
.chips .more{color:var(--muted);margin:2px 0 6px 26px;font:13px/1.4 system-ui,sans-serif}
.chip{border-radius:4px;padding:1px 7px;border:1px solid;white-space:pre-wrap;
border-color:color-mix(in srgb,var(--c) 45%,transparent);background:color-mix(in srgb,var(--c) 13%,transparent)}
.chip b{font-weight:600;margin-left:6px;color:var(--c)}
.chip.target{border-style:dashed;background:none}
.k-patch{--c:var(--patch)}.k-column{--c:var(--column)}.k-start{--c:var(--start)}.k-end{--c:var(--end)}
.k-text{--c:var(--text)}.k-answer{--c:var(--answer)}.k-bos{--c:var(--bos)}
.map{display:flex;flex-wrap:wrap;gap:10px 3px;align-items:flex-end}
.map svg{max-width:100%;height:auto;margin:0 3px}
.map u{display:block;width:7px;height:18px;border-radius:1.5px;background:var(--c)}
.cell{fill:var(--c)}
.mask text,.time text{font:12px system-ui,sans-serif;fill:var(--ink)}
.mask .small,.time .small{fill:var(--muted);font-size:11px}
.mask .no{fill:var(--soft)}.mask .see{fill:var(--text);fill-opacity:.75}.mask .vis{fill:var(--patch)}
.mask .ahead{fill:var(--ahead)}
.time .axis{stroke:var(--line);stroke-width:2}.time .tick{stroke:var(--patch);stroke-width:2}
.time .final{stroke:var(--start);stroke-width:4}
footer{margin-top:48px;color:var(--muted);font-size:.82rem}
@media(max-width:720px){body{padding:18px 12px 48px}.pair,.pair.equal{grid-template-columns:minmax(0,1fr)}
.close{grid-template-columns:110px minmax(0,1fr)}
.facts{grid-template-columns:repeat(2,1fr)}
table.single thead{display:none}table.single tr{display:grid;grid-template-columns:1.8em auto 1fr;padding:7px 0;
border-top:1px solid var(--line)}table.single tr:first-child{border:0}table.single td{border:0;padding:0 0 0 8px}
table.single td.n{padding:0}table.single td.v{white-space:normal}table.single td.note{grid-column:2/-1}}
"""
