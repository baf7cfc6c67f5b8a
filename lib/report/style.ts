/** Style sheet of the report pages. `--vg-*` reach the charts as well. */
export const STYLE = `
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--edge:#e1e5ec;--vg-ink:#1c2330;--vg-muted:#5c6575;--vg-grid:#e6e9ef;--accent:#0072b2}
@media(prefers-color-scheme:dark){:root{--page:#11151c;--card:#191f29;--edge:#2a3241;--vg-ink:#e8ebf1;--vg-muted:#9aa4b5;--vg-grid:#2b3340;--accent:#5ab4f0}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--vg-ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;-webkit-font-smoothing:antialiased}
main{max-width:1160px;margin:0 auto;padding:44px 24px 64px}
header{margin-bottom:28px;border-left:4px solid var(--accent);padding-left:16px}
h1{font-size:30px;line-height:1.2;letter-spacing:-.015em;margin:0}
.subtitle{margin:6px 0 0;color:var(--vg-muted);font-size:16px;max-width:75ch}
section{margin-top:38px}
h2{font-size:18px;letter-spacing:-.005em;margin:0 0 14px}
h3{font-size:15px;margin:0;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:0}
.tiles div,.charts figure,article,details,.scroll{background:var(--card);border:1px solid var(--edge);border-radius:10px}
.tiles div{padding:12px 16px 14px}
.tiles dt{color:var(--vg-muted);font-size:13px}
.tiles dd{margin:2px 0 0;font-size:24px;line-height:1.2;font-weight:600;letter-spacing:-.01em;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto;padding:4px 8px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
caption{caption-side:bottom;text-align:left;color:var(--vg-muted);font-size:13px;padding:10px 12px}
th,td{padding:9px 12px;text-align:left;white-space:nowrap}
thead th{color:var(--vg-muted);font-size:13px;font-weight:500;border-bottom:1px solid var(--edge)}
tbody th{font-weight:500}
tbody tr+tr>*{border-top:1px solid var(--vg-grid)}
.number{text-align:right}
td strong{color:var(--accent)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:16px}
figure{margin:0}
.charts figure{padding:10px 12px 8px}
.charts svg{display:block;width:100%}
.legend{display:flex;flex-wrap:wrap;gap:6px 20px;list-style:none;margin:0 0 14px;padding:0;color:var(--vg-muted);font-size:13px}
.legend li{display:flex;align-items:center;gap:7px}
.legend span{width:12px;height:12px;border-radius:3px;border:1px solid var(--vg-muted)}
.cases{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:16px}
article{padding:14px 16px 12px}
.facts{display:flex;flex-wrap:wrap;gap:0 16px;margin:2px 0 10px;color:var(--vg-muted);font-size:13px;font-variant-numeric:tabular-nums}
.facts b{color:var(--vg-ink);font-weight:600}
.triptych{display:grid;grid-template-columns:repeat(auto-fit,minmax(90px,1fr));gap:8px}
img{display:block;width:100%;height:auto;border-radius:6px;background:#000}
figcaption{color:var(--vg-muted);font-size:12px;text-align:center;margin-top:4px}
summary{cursor:pointer;padding:12px 16px;color:var(--vg-muted)}
summary:hover{color:var(--vg-ink)}
pre{margin:0;padding:4px 16px 16px;overflow-x:auto;font:12.5px/1.55 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
footer{margin-top:44px;color:var(--vg-muted);font-size:13px}
@media print{body{background:none}article,.charts figure{break-inside:avoid}}
`;
