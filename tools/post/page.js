// A figure that is shown smaller than it is: a tap on it shows it in full, and its box scrolls. A button says so where much is lost.
for (const picture of document.querySelectorAll("figure img")) {
  const figure = picture.parentElement, wide = Number(picture.getAttribute("width"));
  const button = figure.appendChild(document.createElement("button"));
  button.className = "zoom";
  const show = large => {
    figure.classList.toggle("large", large);
    button.textContent = large ? "Fit" : "Enlarge";
    button.ariaLabel = large ? "Fit the figure to the page" : "Enlarge the figure";
  };
  const mark = () => {
    const shrunk = wide > figure.clientWidth + 1;
    picture.classList.toggle("shrunk", shrunk);
    button.hidden = wide < 1.25 * figure.clientWidth;
    show(shrunk && figure.matches(".large"));
  };
  const turn = () => {
    show(picture.matches(".shrunk") && !figure.matches(".large"));
    reach();
  };
  picture.addEventListener("click", turn);
  button.addEventListener("click", turn);
  addEventListener("resize", mark);
  mark();
}

// A box that scrolls must be reachable by keyboard, and only such a box.
const boxes = [...document.querySelectorAll(".scrolls, figure")];
const reach = () => {
  for (const box of boxes) {
    if (box.scrollWidth > box.clientWidth) {
      box.tabIndex = 0;
      box.role = "group";
      box.ariaLabel = box.matches(".code") ? "Code" : box.matches(".formula") ? "Formula" : box.matches(".output") ? "Output" : box.matches("figure") ? "Figure" : "Table";
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
