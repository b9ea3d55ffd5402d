/** The look of the report: plain CSS, by the colour scheme of whoever reads it. */
export const REPORT_STYLE = `
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--text:#1a2230;--soft:#5b6678;--line:#e2e6ec;--track:#eef1f5;--bar:#3a6ea8;
--near:#b45309;--full:#b91c1c;--c1:#2f6db3;--c2:#d9822b;--c3:#2a9d8f;--c4:#b0457b;--c5:#7a5bbf;--c6:#8a94a3}
@media (prefers-color-scheme:dark){:root{--page:#11151b;--card:#1a2029;--text:#e8ecf2;--soft:#9aa5b5;--line:#2c3542;--track:#252d38;--bar:#6ea3dc;
--near:#f0a850;--full:#f57f7f;--c1:#6ea3dc;--c2:#eaa45c;--c3:#55c2b4;--c4:#dd82b0;--c5:#a98fe0;--c6:#8590a0}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);font:15px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;font-variant-numeric:tabular-nums}
main{max-width:1040px;margin:0 auto;padding:32px 20px 48px}
header{display:flex;flex-wrap:wrap;align-items:baseline;gap:4px 16px;margin-bottom:20px}
h1{font-size:26px;line-height:1.2;margin:0;letter-spacing:-.01em;overflow-wrap:anywhere}
header p{margin:0;color:var(--soft)}
h2{font-size:17px;margin:0 0 4px}
section,.tiles>div{background:var(--card);border:1px solid var(--line);border-radius:10px}
section{padding:20px;margin-top:16px}
.note{margin:0 0 12px;color:var(--soft)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:0}
.tiles>div{padding:14px 16px;display:flex;flex-direction:column-reverse;justify-content:flex-end;min-width:0}
dt{color:var(--soft);font-size:13px}
dd{margin:0;font-size:24px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;font-weight:600;letter-spacing:-.01em}
figure{margin:8px 0 0}
figcaption{color:var(--soft);margin-top:8px;font-size:13px}
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif;fill:var(--soft)}
.grid{stroke:var(--line)}
.axis{stroke:var(--soft)}
.column:hover{opacity:.75}
rect.c1{fill:var(--c1)}rect.c2{fill:var(--c2)}rect.c3{fill:var(--c3)}rect.c4{fill:var(--c4)}rect.c5{fill:var(--c5)}rect.c6{fill:var(--c6)}
.swatch{width:12px;height:12px;border-radius:3px;flex:none}
.swatch.c1{background:var(--c1)}.swatch.c2{background:var(--c2)}.swatch.c3{background:var(--c3)}.swatch.c4{background:var(--c4)}.swatch.c5{background:var(--c5)}.swatch.c6{background:var(--c6)}
.legend{list-style:none;margin:12px 0 0;padding:0;display:grid;grid-template-columns:repeat(auto-fill,minmax(260px,1fr));gap:4px 24px}
.legend li{display:flex;align-items:center;gap:8px;min-width:0}
.name{overflow:hidden;text-overflow:ellipsis;white-space:nowrap;min-width:0;unicode-bidi:isolate}
.legend .amount{margin-left:auto;font-weight:600}
.legend .share{color:var(--soft);width:50px;white-space:nowrap;text-align:right;flex:none}
.bars{list-style:none;margin:8px 0 0;padding:0}
.bars li{display:grid;grid-template-columns:minmax(90px,220px) 1fr;gap:12px;align-items:center;min-height:26px}
.track{display:flex;align-items:center;gap:8px;padding-right:88px;min-width:0}
.bar{height:16px;border-radius:0 3px 3px 0;background:var(--bar);min-width:2px;flex:none;max-width:100%}
.value{white-space:nowrap;font-weight:600;margin-right:-88px}
.scale .track{position:relative;display:block;height:20px;border-top:1px solid var(--line);margin-right:88px;padding:0}
.scale .track span{position:absolute;top:3px;transform:translateX(-50%);color:var(--soft);font-size:12px;white-space:nowrap}
.scale .track span:first-child{transform:none}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;margin-top:8px}
th,td{text-align:right;padding:6px 10px;border-bottom:1px solid var(--line);white-space:nowrap;font-weight:400}
th:first-child{text-align:left;padding-left:0}
th .name{display:inline-block;max-width:220px;vertical-align:bottom}
thead th{color:var(--soft);font-size:13px}
tbody tr:last-child>*{border-bottom:0}
.quotas td{text-align:left;min-width:140px}
.quotas thead th{text-align:left}
.meter{display:block;height:6px;border-radius:3px;background:var(--track);overflow:hidden;margin-bottom:3px}
.meter span{display:block;height:100%;background:var(--bar)}
.near .meter span{background:var(--near)}.full .meter span{background:var(--full)}
.percent{font-weight:600}
.near .percent{color:var(--near)}.full .percent{color:var(--full)}
.of{color:var(--soft);margin-left:8px;font-size:13px}
details{margin-top:10px}
summary{cursor:pointer;color:var(--soft)}
.empty{text-align:center;padding:56px 20px}
.empty p{color:var(--soft);max-width:52ch;margin:8px auto 0}
footer{color:var(--soft);font-size:13px;margin-top:20px}
@media (max-width:640px){main{padding:20px 12px}section{padding:14px}.bars li{grid-template-columns:minmax(70px,34%) 1fr}svg text{font-size:21px}dd{font-size:20px}.scale .track span:nth-child(even){display:none}}
@media print{body{background:#fff}section,.tiles>div{break-inside:avoid}}
`
