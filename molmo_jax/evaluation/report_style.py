"""The style sheet and the script of the evaluation report; both go into the page as they are."""

from __future__ import annotations

CSS = """
:root{color-scheme:light dark;--page:#f6f7f8;--card:#fff;--text:#1c2126;--muted:#5b6570;--line:#dde2e6;--bar:#2f6fb3;
--track:#e8ecef;--right:#1d7443;--wrong:#b4342c;--chance:#b06a00}
@media(prefers-color-scheme:dark){:root{--page:#15181b;--card:#1d2125;--text:#e4e7ea;--muted:#9aa4ae;--line:#333a41;
--bar:#5b9bde;--track:#2b3137;--right:#6cc493;--wrong:#f0857c;--chance:#e5a84b}}
*{box-sizing:border-box}
[hidden]{display:none!important}
body{margin:0 auto;max-width:1180px;padding:28px 20px 64px;font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;
background:var(--page);color:var(--text);overflow-wrap:anywhere}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 4px}
h2{font-size:1.1rem;margin:36px 0 10px}
h2 small{font-weight:400;color:var(--muted);font-size:.85rem;margin-left:8px}
.lead{margin:0 0 20px;color:var(--muted)}
.lead b{color:var(--text)}
.panel{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:14px 16px}
.tasks{width:100%;border-collapse:collapse;font-variant-numeric:tabular-nums}
.tasks th{font-weight:500;font-size:.8rem;color:var(--muted);text-align:right;padding:0 0 6px 16px}
.tasks td{padding:7px 0 7px 16px;text-align:right;border-top:1px solid var(--line);white-space:nowrap}
.tasks th:first-child,.tasks td:first-child{padding-left:0;text-align:left;white-space:normal}
.tasks td.plot,.tasks th.plot{width:38%;text-align:left}
.tasks td.accuracy{font-weight:600}
.tasks tfoot td{font-weight:600;border-top:2px solid var(--line)}
.bar{position:relative;height:14px;background:var(--track);border-radius:3px}
.bar>*{position:absolute;top:0;bottom:0}
.bar .fill{left:0;background:var(--bar);border-radius:3px 0 0 3px;opacity:.8}
.bar .interval{top:3px;bottom:3px;border:solid var(--text);border-width:0 1.5px;min-width:2px}
.bar .interval::before{content:"";position:absolute;left:0;right:0;top:50%;margin-top:-.75px;
border-top:1.5px solid var(--text)}
.bar .chance{top:-4px;bottom:-4px;border-left:2px dashed var(--chance);margin-left:-1px}
.key{color:var(--muted);font-size:.8rem;margin:10px 0 0}
.key i{display:inline-block;vertical-align:middle;margin:0 5px 2px 12px;width:18px}
.key i:first-child{margin-left:0}
.key .fill{height:10px;background:var(--bar);opacity:.8;border-radius:2px}
.key .interval{height:8px;border:solid var(--text);border-width:0 1.5px;
background:linear-gradient(var(--text),var(--text)) center/100% 1.5px no-repeat}
.key .chance{height:14px;width:0;border-left:2px dashed var(--chance)}
.filters{position:sticky;top:0;z-index:2;display:flex;flex-wrap:wrap;gap:6px 18px;align-items:center;margin-top:28px;
padding:10px 0;background:var(--page);border-bottom:1px solid var(--line)}
.filters select{font:inherit;max-width:60vw;padding:3px 6px;color:inherit;background:var(--card);
border:1px solid var(--line);border-radius:5px}
.filters output{color:var(--muted);font-size:.85rem}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;color:var(--muted);font-size:.85rem;margin:0 0 10px}
.legend svg{width:18px;height:18px;vertical-align:-4px;margin-right:5px;background:#8d949b;border-radius:3px}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,260px),1fr));gap:14px;align-items:start}
.cards:has(.strip){grid-template-columns:repeat(auto-fill,minmax(min(100%,370px),1fr))}
.card{border:1px solid var(--line);border-radius:8px;background:var(--card);overflow:hidden;
border-top:3px solid var(--right)}
.card.wrong{border-top-color:var(--wrong)}
.media{display:grid;gap:6px;padding:10px 10px 0}
.media.strip{grid-template-columns:repeat(auto-fill,minmax(80px,1fr));gap:6px 4px}
figure{margin:0;width:100%;justify-self:center}
.picture{position:relative;line-height:0}
.picture img{width:100%;height:auto;border-radius:3px;background:var(--track)}
.picture img.tiny{image-rendering:pixelated}
.picture svg{position:absolute;inset:0;width:100%;height:100%;overflow:visible}
figcaption{font-size:.75rem;color:var(--muted);text-align:center;line-height:1.4}
.marks *{fill:none;vector-effect:non-scaling-stroke}
.marks .halo{stroke:#fff;stroke-opacity:.85;stroke-width:4.5}
.marks .reference{stroke:#0a7f5a;stroke-width:2}
.marks .tolerance{stroke:#0a7f5a;stroke-width:1.2;stroke-dasharray:3 3}
.marks .predicted{stroke:#c2185b;stroke-width:2.2}
.missing{margin:0;grid-column:1/-1;color:var(--muted);font-size:.8rem;background:var(--track);border-radius:3px;padding:8px}
.text{padding:10px 12px 12px}
.question{margin:0 0 8px;white-space:pre-wrap;max-height:12em;overflow:auto}
dl{display:grid;grid-template-columns:auto minmax(0,1fr);gap:3px 10px;margin:0}
dt{color:var(--muted);font-size:.8rem;padding-top:2px}
dd{margin:0;white-space:pre-wrap;max-height:12em;overflow:auto}
dd.prediction{font-weight:600}
dd.prediction.tagged{font:12px/1.5 ui-monospace,Consolas,monospace;padding-top:2px}
.mark{font-weight:700;color:var(--right);margin-right:4px}
.mark.wrong{color:var(--wrong)}
.source{margin:8px 0 0;color:var(--muted);font-size:.75rem}
details{margin-top:28px}
summary{cursor:pointer;font-weight:600}
.settings{border-collapse:collapse;margin-top:10px;font:13px/1.5 ui-monospace,Consolas,monospace}
.settings td{padding:1px 16px 1px 0;vertical-align:top}
.settings td:first-child{color:var(--muted)}
@media(max-width:700px){
body{padding:18px 14px 48px}
.tasks thead{display:none}
.tasks,.tasks tbody,.tasks tfoot{display:block}
.tasks tr{display:flex;flex-wrap:wrap;gap:3px 14px;padding:9px 0;border-top:1px solid var(--line)}
.tasks tfoot tr{border-top-width:2px}
.tasks tbody tr:first-child{border-top:0;padding-top:0}
.tasks td,.tasks tfoot td{border:0;padding:0;text-align:left;order:3}
.tasks td:first-child{flex:1;min-width:0;order:0}
.tasks td.accuracy{order:1}
.tasks td.plot{order:2;width:100%;padding:3px 0}
.tasks td[data-label]{font-size:.8rem;color:var(--muted);font-weight:400}
.tasks td[data-label]::before{content:attr(data-label) " "}
.settings td{display:block}
.settings td:last-child{padding-bottom:6px}
}
"""

SCRIPT = """
(() => {
  const bar = document.querySelector('.filters');
  if (!bar) return;
  const task = bar.querySelector('select'), wrong = bar.querySelector('input'), count = bar.querySelector('output');
  const update = () => {
    let shown = 0;
    for (const section of document.querySelectorAll('section[data-task]')) {
      let inSection = 0;
      for (const card of section.querySelectorAll('.card')) {
        card.hidden = (task.value && task.value !== section.dataset.task) ||
            (wrong.checked && !card.classList.contains('wrong'));
        inSection += !card.hidden;
      }
      section.hidden = !inSection;
      shown += inSection;
    }
    count.textContent = shown + (shown === 1 ? ' example' : ' examples');
  };
  bar.addEventListener('input', update);
  bar.hidden = false;
  update();
})();
"""
