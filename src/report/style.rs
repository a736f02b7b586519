//! Colours and fonts, once, for every picture and page.
//!
//! Series colours are those of Okabe and Ito, "Color Universal Design" (2008), which stay apart under the common forms
//! of colour blindness; in dark mode each is replaced by a lighter relative. Plain class rules with a
//! `prefers-color-scheme` block are used inside pictures instead of CSS variables, so viewers without variables
//! (many SVG viewers) still show the light version. Print always uses the light version.

/// Number of series colours (`s1`..`s6` for strokes, `f1`..`f6` for fills).
pub(crate) const COLOURS: usize = 6;

/// Class rules of every picture. All are scoped to `.hl-plot`, so repeating them on one page changes nothing.
pub(crate) const PLOT_CSS: &str = "\
.hl-plot{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}\
.hl-plot text{fill:#374151;font-size:12px;font-variant-numeric:tabular-nums}\
.hl-plot .title{fill:#111827;font-size:15px;font-weight:600}\
.hl-plot .label{font-size:12.5px}.hl-plot .tick{fill:#6b7280;font-size:11.5px}\
.hl-plot .note{fill:#6b7280;font-size:11.5px;font-style:italic}.hl-plot .small{font-size:11px}\
.hl-plot .strong{fill:#111827;font-size:13px;font-weight:600}.hl-plot .big{fill:#111827;font-size:20px;font-weight:600}\
.hl-plot .inv{fill:#fff}\
.hl-plot .bg{fill:#fff}.hl-plot .halo{paint-order:stroke;stroke:#fff;stroke-width:3px;stroke-linejoin:round}\
.hl-plot .grid{stroke:#e5e7eb;stroke-width:1}.hl-plot .axis{stroke:#9ca3af;stroke-width:1}\
.hl-plot .ref{stroke:#6b7280;stroke-width:1.2;stroke-dasharray:5 4;fill:none}\
.hl-plot .leader{stroke:#9ca3af;stroke-width:.8}\
.hl-plot path{fill:none;stroke-linejoin:round;stroke-linecap:round;stroke-width:1.6}\
.hl-plot .thin{stroke-width:1}.hl-plot .mid{stroke-width:1.3}.hl-plot .bold{stroke-width:2.2}\
.hl-plot .pale{opacity:.35}.hl-plot .half{opacity:.6}.hl-plot .band{fill-opacity:.16;stroke:none}\
.hl-plot .ink{stroke:#374151}.hl-plot .inkf{fill:#374151;stroke:none}\
.hl-plot .mute{fill:#9ca3af;stroke:none}.hl-plot .void{fill:#f3f4f6}\
.hl-plot .dot{stroke:#fff;stroke-width:1.2}\
.hl-plot .s1{stroke:#0072b2}.hl-plot .s2{stroke:#d55e00}.hl-plot .s3{stroke:#009e73}\
.hl-plot .s4{stroke:#b7569a}.hl-plot .s5{stroke:#c98a00}.hl-plot .s6{stroke:#3a9bd9}\
.hl-plot .f1{fill:#0072b2}.hl-plot .f2{fill:#d55e00}.hl-plot .f3{fill:#009e73}\
.hl-plot .f4{fill:#b7569a}.hl-plot .f5{fill:#e69f00}.hl-plot .f6{fill:#56b4e9}\
@media screen and (prefers-color-scheme:dark){\
.hl-plot text{fill:#d1d5db}.hl-plot .title,.hl-plot .strong,.hl-plot .big{fill:#f3f4f6}\
.hl-plot .tick,.hl-plot .note{fill:#9ca3af}.hl-plot .inv{fill:#0b1220}\
.hl-plot .bg{fill:#161b22}.hl-plot .halo{stroke:#161b22}.hl-plot .grid{stroke:#2b323c}.hl-plot .axis{stroke:#6b7280}\
.hl-plot .ref{stroke:#9ca3af}.hl-plot .leader{stroke:#6b7280}\
.hl-plot .ink{stroke:#d1d5db}.hl-plot .inkf{fill:#d1d5db}.hl-plot .mute{fill:#6b7280}.hl-plot .void{fill:#222a35}\
.hl-plot .dot{stroke:#161b22}.hl-plot .band{fill-opacity:.24}\
.hl-plot .s1{stroke:#58a6e8}.hl-plot .s2{stroke:#ff8f4d}.hl-plot .s3{stroke:#3ecf9b}\
.hl-plot .s4{stroke:#e39acb}.hl-plot .s5{stroke:#f0b93a}.hl-plot .s6{stroke:#8fd0ff}\
.hl-plot .f1{fill:#58a6e8}.hl-plot .f2{fill:#ff8f4d}.hl-plot .f3{fill:#3ecf9b}\
.hl-plot .f4{fill:#e39acb}.hl-plot .f5{fill:#f0b93a}.hl-plot .f6{fill:#8fd0ff}}";

/// Style of the page around the pictures.
pub(crate) const PAGE_CSS: &str = "\
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1f2937;--strong:#111827;--mute:#5b6472;--line:#e2e5ea;\
--accent:#0072b2;--info:#eaf3fa;--info-line:#0072b2;--warn:#fff4e0;--warn-line:#c98a00;--sim:#f8ecf4;--sim-line:#b7569a}\
@media screen and (prefers-color-scheme:dark){:root{--bg:#0d1117;--card:#161b22;--ink:#d1d5db;--strong:#f3f4f6;\
--mute:#9aa4b2;--line:#2b323c;--accent:#58a6e8;--info:#10243a;--info-line:#58a6e8;--warn:#33270c;--warn-line:#f0b93a;\
--sim:#331f2d;--sim-line:#e39acb}}\
*{box-sizing:border-box}html{scroll-behavior:smooth}\
body{margin:0;background:var(--bg);color:var(--ink);line-height:1.55;font-size:16px;\
font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}\
main,header,footer{max-width:960px;margin:0 auto;padding:0 24px}\
header{padding-top:40px}h1{font-size:30px;line-height:1.2;margin:0 0 6px;color:var(--strong);text-wrap:balance}\
h2{font-size:21px;margin:48px 0 12px;padding-top:14px;border-top:1px solid var(--line);color:var(--strong)}\
h3{font-size:16px;margin:24px 0 8px;color:var(--strong)}p{margin:10px 0;max-width:72ch}a{color:var(--accent)}\
h1,h2,h3,p,td,th,dd{overflow-wrap:anywhere}\
.subtitle{color:var(--mute);font-size:17px;margin:0 0 18px}\
nav{margin:22px 0 0;font-size:15px}nav ol{margin:4px 0 0;padding:0;list-style:none;display:flex;flex-wrap:wrap;gap:4px 20px}\
nav strong{color:var(--mute);font-weight:600;font-size:13px;text-transform:uppercase;letter-spacing:.04em}\
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:12px;margin:18px 0;padding:0}\
.tile{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:13px 16px;margin:0}\
.tile dt{color:var(--mute);font-size:13px}.tile dd{margin:0}\
.tile .value{font-size:27px;font-weight:600;line-height:1.25;color:var(--strong);font-variant-numeric:tabular-nums}\
.tile .detail{font-size:13px;color:var(--mute)}\
figure{margin:18px 0;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:14px 14px 10px}\
figure .scroll{overflow-x:auto;text-align:center}figure .scroll svg.wide{min-width:560px}\
figcaption,caption{color:var(--mute);font-size:14px;text-align:left;line-height:1.45}\
figcaption{margin-top:8px;border-top:1px solid var(--line);padding-top:8px}figcaption b,caption b{color:var(--ink)}\
.table{overflow-x:auto;margin:18px 0;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:4px 14px 10px}\
table{border-collapse:collapse;width:100%;font-size:14.5px;font-variant-numeric:tabular-nums}\
caption{padding:10px 0}th,td{padding:7px 12px 7px 0;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}\
thead th{color:var(--mute);font-weight:600;font-size:13px;border-bottom:2px solid var(--line)}\
th.r,td.r{text-align:right}tr.hl td,tr.hl th{font-weight:600;color:var(--strong)}tbody tr:last-child>*{border-bottom:0}\
tbody th{font-weight:inherit}\
.notice{border-left:5px solid;border-radius:0 8px 8px 0;padding:12px 18px;margin:18px 0}.notice p{margin:2px 0}\
.notice strong{display:block;color:var(--strong);font-size:16.5px}\
.info{background:var(--info);border-color:var(--info-line)}.warning{background:var(--warn);border-color:var(--warn-line)}\
.simulated{background:var(--sim);border-color:var(--sim-line)}\
pre{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px;overflow-x:auto;font-size:13.5px}\
code,pre,.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}\
footer{margin-top:56px;padding-bottom:48px;font-size:14px;color:var(--mute)}footer h2{font-size:17px}\
footer dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 18px;margin:0}footer dt{font-weight:600}\
footer dd{margin:0;min-width:0}\
@media(max-width:560px){footer dl{grid-template-columns:1fr;gap:0}footer dd{margin-bottom:8px}}\
@media print{body{background:#fff;font-size:11pt}nav{display:none}figure,.tile,.table{break-inside:avoid}}";

/// Stroke class of series `i` (from 0; colours repeat after [`COLOURS`]).
pub(crate) fn stroke(i: usize) -> &'static str {
    ["s1", "s2", "s3", "s4", "s5", "s6"][i % COLOURS]
}

/// Fill class of series `i` (from 0; colours repeat after [`COLOURS`]).
pub(crate) fn fill(i: usize) -> &'static str {
    ["f1", "f2", "f3", "f4", "f5", "f6"][i % COLOURS]
}
