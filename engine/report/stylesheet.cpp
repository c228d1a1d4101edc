// SPDX-License-Identifier: MIT
// How a report looks: a page of a paper's supplement, on a desk, on a telephone, in the dark and on paper.
#include "engine/report/html.h"

namespace gradlibra::html {

const std::string& stylesheet() {
  static const std::string css = R"css(
:root{color-scheme:light dark;--ink:#1b1b1b;--soft:#5c5c5c;--rule:#d4d3cf;--faint:#f4f3ef;--paper:#fff;--link:#0b5fa5;
--right:#0b5fa5;--c0:#0b5fa5;--c1:#c04e00;--c2:#00795c;--c6:#5b5f66;--heat:11,95,165}
*{box-sizing:border-box}
html{font-size:106.25%;-webkit-text-size-adjust:100%;text-size-adjust:100%;scroll-padding-top:1rem}
body{margin:0 auto;max-width:64rem;padding:2.5rem 1.25rem 4rem;background:var(--paper);color:var(--ink);
font-family:"Iowan Old Style","Palatino Linotype",Palatino,"Source Serif 4",Georgia,"DejaVu Serif",serif;
line-height:1.5}
p,figcaption,dl,li{overflow-wrap:anywhere}
p{margin:.6rem 0;max-width:44rem}
a{color:var(--link)}
:focus-visible{outline:3px solid var(--link);outline-offset:2px}
main:focus{outline:none}
.skip{position:absolute;left:-100vw;top:.5rem;background:var(--paper);padding:.4rem .8rem;z-index:1}
.skip:focus{left:.5rem}
header{border-bottom:2px solid var(--ink);padding-bottom:1rem}
.kind{margin:0;color:var(--soft);font-variant:small-caps;letter-spacing:.06em}
h1{font-size:1.9rem;line-height:1.2;margin:.1rem 0 .4rem;font-weight:600;overflow-wrap:anywhere}
h2{font-size:1.3rem;margin:0 0 .6rem;font-weight:600}
h3{font-size:1.05rem;margin:1.5rem 0 .4rem;font-weight:600}
header p{color:var(--soft)}
nav ol{list-style:none;display:flex;flex-wrap:wrap;gap:.15rem 1.2rem;margin:0;padding:.7rem 0;border-bottom:1px solid
var(--rule)}
nav a{display:inline-block;padding:.25rem 0;text-decoration-thickness:1px;text-underline-offset:.2em}
section{margin-top:2.6rem}
footer{margin-top:3rem;padding-top:.8rem;border-top:1px solid var(--rule);color:var(--soft);font-size:.85rem}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.8rem}
code{overflow-wrap:anywhere}
pre{overflow:auto;background:var(--faint);padding:.7rem .9rem;margin:.5rem 0;line-height:1.4;border-radius:3px}
.note{color:var(--soft);font-size:.9rem}
.missing{border-left:3px solid var(--rule);padding:.1rem 0 .1rem 1rem;color:var(--soft)}
.missing pre{color:var(--ink)}
table,figure svg,figcaption,.key,.legend,.boxes{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",
Arial,"DejaVu Sans",sans-serif}
.scroll{overflow-x:auto;margin:.8rem 0;max-width:100%;width:fit-content}
table{border-collapse:collapse;font-size:.82rem;line-height:1.35;border-top:1.5px solid var(--ink);
border-bottom:1.5px solid var(--ink);font-variant-numeric:tabular-nums lining-nums}
caption{text-align:left;color:var(--soft);padding:0 0 .4rem}
caption span{display:block;width:fit-content;max-width:min(40rem,calc(100vw - 2.7rem));position:sticky;left:0}
th,td{padding:.24rem .65rem;text-align:left;vertical-align:baseline;white-space:nowrap}
th:first-child,td:first-child{padding-left:.2rem}
th{font-weight:500}
thead tr{border-bottom:1px solid var(--ink)}thead th{font-weight:600;vertical-align:bottom}
.n{text-align:right}
tbody+tbody{border-top:1px solid var(--rule)}
.mean th,.mean td{font-weight:600}
.base th,.base td{background:var(--faint)}
.wrap td{white-space:normal;min-width:9rem;overflow-wrap:anywhere}
.best{font-weight:700}
.paper{display:block;color:var(--soft);font-size:.74rem;font-weight:400}
.spread{display:block;font-size:.74rem;font-weight:400}
.seeds .spread{display:inline;margin-left:.4em}
.range{color:var(--soft);font-size:.74rem}
.results tbody th,.matrix tbody th{white-space:normal;min-width:6.5rem;max-width:min(14rem,42vw);overflow-wrap:anywhere}
.results thead th,.results td{padding-left:.45rem;padding-right:.45rem}
.results tbody th,.matrix tbody th,.results .base th{position:sticky;left:0;background:var(--paper)}
.tall thead th.n{writing-mode:vertical-rl;transform:rotate(180deg);text-align:left;padding:.45rem .2rem}
.results .base th{background:var(--faint)}
.plain{list-style:none;padding:0;margin:.4rem 0}
.wide{max-width:44rem;margin:1rem 0}.wide figure svg{max-width:none}
.bar{display:inline-block;width:6.5rem;height:.62rem;margin-right:.6rem;vertical-align:baseline}
.value{display:inline-block;min-width:2.5rem}
.bar .track{fill:var(--faint)}
.dot{display:inline-block;width:.62rem;height:.62rem;margin-right:.45rem;border-radius:50%;background:var(--c6)}
.dot.d0{background:var(--c0)}.dot.d1{background:var(--c1);border-radius:0}.dot.d2{background:var(--c2);border-radius:0;
clip-path:polygon(50% 0,100% 100%,0 100%)}
.key{display:flex;flex-wrap:wrap;gap:.4rem 2.2rem;margin:1rem 0}
.key div{min-width:4.2rem}
.key dt{font-size:.78rem;color:var(--soft)}.key sub,th sub{line-height:0}
.key dd{margin:0;font-size:1.45rem;font-weight:500;font-variant-numeric:tabular-nums lining-nums;line-height:1.25}
.key div:first-child dd{font-weight:700}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,23rem),1fr));gap:1.4rem 2rem;margin:1rem 0}
.small-figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,9.4rem),1fr));gap:1rem 1.1rem;
margin:1rem 0}
figure{margin:0;min-width:0}
figure svg{display:block;width:100%;height:auto;max-width:36rem}
figcaption{font-size:.82rem;color:var(--soft);line-height:1.4;margin-top:.3rem}
figcaption b{color:var(--ink);font-weight:600}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,17rem),1fr));gap:1.4rem;margin:1rem 0}
.picture svg{background:#777;max-width:100%}
.picture text{font-weight:700;paint-order:stroke;stroke:#000;stroke-linejoin:round;fill:#fff}
.picture .halo{fill:none;stroke:#fff;stroke-opacity:.9}
.picture .truth{fill:none;stroke:#fff}
.picture .dark{fill:none;stroke:#000;stroke-opacity:.75}
.picture .right{fill:none;stroke:#0b5fa5}.picture .other{fill:none;stroke:#b84a00}
.picture .false{fill:none;stroke:#9a1f78}
.legend{display:flex;flex-wrap:wrap;gap:.3rem 1.4rem;list-style:none;padding:0;margin:.8rem 0;font-size:.82rem}
.legend svg{width:2.1rem;height:1.1rem;vertical-align:-.2rem;margin-right:.45rem;background:#8a8a8a;border-radius:2px}
.boxes{font-size:.8rem;margin:.4rem 0;padding-left:1.8rem}
details{margin:.5rem 0}
summary{cursor:pointer;padding:.25rem 0;color:var(--link);width:fit-content}
summary:hover{text-decoration:underline}
.picture summary{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,"DejaVu Sans",sans-serif;
font-size:.8rem}
.matrix tbody th{padding:.3rem .45rem .3rem .2rem}
.matrix thead th{writing-mode:vertical-rl;transform:rotate(180deg);text-align:left;padding:.45rem .3rem;max-height:9rem;
overflow:hidden;text-overflow:ellipsis}
.matrix thead th:first-child{writing-mode:horizontal-tb;transform:none;color:var(--soft);font-weight:400}
.matrix .diagonal{outline:1.5px solid var(--ink);outline-offset:-1.5px}
.matrix td{padding:0}.matrix td span{display:block;padding:.3rem .45rem;min-width:2.4rem}
.matrix .zero{color:var(--soft)}
.h1{background:rgba(var(--heat),.08)}.h2{background:rgba(var(--heat),.16)}.h3{background:rgba(var(--heat),.24)}
.h4{background:rgba(var(--heat),.32)}.h5{background:rgba(var(--heat),.4)}.h6{background:rgba(var(--heat),.48)}
.h7{background:rgba(var(--heat),.56)}
.config{columns:24rem;column-gap:2rem;white-space:pre-wrap;overflow-wrap:anywhere}
@media (max-width:30rem){body{padding:1.4rem 1rem 3rem}h1{font-size:1.5rem}section{margin-top:2.1rem}
.key{gap:.4rem 1.4rem}th,td{padding:.24rem .5rem}.small-figures{grid-template-columns:1fr 1fr}
nav a,summary{padding:.4rem 0}}
@media screen and (prefers-color-scheme:dark){:root{--ink:#e9e7e2;--soft:#a9a7a1;--rule:#3f4042;--faint:#232427;
--paper:#17181a;--link:#8cc4f2;--c0:#74b6ee;--c1:#f59a52;--c2:#4fc9a4;--c6:#b4b8be;--heat:96,165,225}
.picture image{filter:brightness(.88)}}
@media print{@page{margin:17mm 15mm}:root{color-scheme:light}html{font-size:9.5pt}body{max-width:none;padding:0}
nav,.skip{display:none}a{color:inherit;text-decoration:none}section{margin-top:1.6rem}
h2,h3,caption,h2+.note{break-after:avoid}figure,tr,.key,.missing{break-inside:avoid}thead{display:table-header-group}
.scroll{overflow:visible}caption span{position:static;max-width:none}table{font-size:8pt}th,td{padding:.15rem .4rem}
details::details-content{content-visibility:visible;display:block;block-size:auto;opacity:1}
summary{list-style:none;color:var(--ink);font-weight:600}
.figures{grid-template-columns:1fr 1fr}.small-figures{grid-template-columns:repeat(5,1fr)}
.pictures{grid-template-columns:repeat(3,1fr)}pre{background:none;border:1px solid var(--rule);white-space:pre-wrap}
.config{font-size:6.5pt;columns:3;border:0;padding:0}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
)css";
  return css;
}

}  // namespace gradlibra::html
