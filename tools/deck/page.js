// What does not fit is made smaller: fonts differ from machine to machine, and nothing may be cut off.
const SMALLEST = 0.5;
const DESCENT = 8; // pixels that a formula in the last line may reach below it; the foot stands farther down

function shrinkWide(body) {
  for (const one of body.querySelectorAll("pre, .formula, .table")) {
    if (one.scrollWidth > one.clientWidth) {
      one.style.setProperty("--fit", ((0.99 * one.clientWidth) / one.scrollWidth).toFixed(3));
    }
  }
}

function fit(slide) {
  const body = slide.querySelector(".body");
  const largest = body ? parseFloat(getComputedStyle(body).getPropertyValue("--scale")) : 0;
  for (let scale = largest; scale > SMALLEST; scale -= 0.03) {
    body.style.setProperty("--scale", scale.toFixed(2));
    if (body.scrollHeight <= body.clientHeight + DESCENT && body.scrollWidth <= body.clientWidth) break;
  }
}

document.querySelectorAll("[data-same]").forEach((one) => { one.src = document.getElementById(one.dataset.same).src; });
document.querySelectorAll(".body").forEach(shrinkWide);
document.querySelectorAll(".slide").forEach(fit);
document.querySelector(".reveal").classList.remove("measured");

Reveal.initialize({
  width: 1280,
  height: 720,
  margin: 0,
  center: false,
  controls: false,
  hash: true,
  navigationMode: "linear", // a clicker, which sends right and left, shows every slide
  pdfSeparateFragments: false,
  scrollActivationWidth: null,
  transition: "none",
  backgroundTransition: "none",
  plugins: [RevealNotes],
});
