// A box that scrolls must be reachable by keyboard, and only such a box.
const boxes = [...document.querySelectorAll(".scrolls")];
const reach = () => {
  for (const box of boxes) {
    if (box.scrollWidth > box.clientWidth) {
      box.tabIndex = 0;
      box.role = "group";
      box.ariaLabel = box.matches(".code") ? "Code" : box.matches(".formula") ? "Formula" : box.matches(".output") ? "Output" : "Table";
    } else {
      box.removeAttribute("tabindex");
      box.removeAttribute("role");
      box.removeAttribute("aria-label");
    }
  }
};
reach();
addEventListener("resize", reach);
addEventListener("toggle", reach, true);

// A figure that is shown smaller than it is: a tap shows it in full, and its box scrolls.
for (const picture of document.querySelectorAll("figure img")) {
  const figure = picture.parentElement, wide = Number(picture.getAttribute("width"));
  const mark = () => picture.classList.toggle("shrunk", wide > figure.clientWidth + 1);
  picture.addEventListener("click", () => figure.classList.toggle("large", picture.matches(".shrunk") && !figure.matches(".large")));
  addEventListener("resize", mark);
  mark();
}

// The explorer in place of its picture, as high as it says it is, and its border.
const frames = [...document.querySelectorAll(".explorer iframe")];
addEventListener("message", event => {
  const frame = frames.find(one => one.contentWindow === event.source);
  const height = frame && Number(event.data && event.data.height);
  if (height > 0) frame.style.height = `${Math.min(height, 4000) + 2}px`;
});
for (const frame of frames) {
  frame.srcdoc = frame.dataset.page;
  frame.hidden = false;
  frame.parentElement.classList.add("live");
}
