const texts = JSON.parse(document.getElementById("texts").textContent);
const field = document.querySelector("[name=q]"), results = document.getElementById("results");
const status = results.querySelector("p"), list = results.querySelector("ol");
const plain = text => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
const sections = texts.flatMap(page => page.sections.map(([anchor, heading, text]) => {
  const name = plain(heading || page.title); // what comes before the first heading is named as the page is
  return { page, anchor, heading, text, names: name.split(/[^\p{L}\p{N}_]+/u), searched: [plain(page.title), name, plain(text)] };
}));
const SHOWN = 30;

function score(section, words) {
  let sum = 0;
  for (const word of words) {
    const [title, heading, text] = section.searched.map(part => part.split(word).length - 1);
    if (title + heading + text === 0) return 0;
    sum += 4 * title + 8 * heading + Math.min(text, 5) + (section.names.includes(word) ? 8 : 0);
  }
  return sum;
}

// The text around the first word, with all words marked. Folding may change a text's length; then none is marked.
function snippet(section, words) {
  const { text } = section, folded = section.searched[2], same = folded.length === text.length;
  const first = Math.max(0, Math.min(...words.map(word => folded.indexOf(word)).filter(at => at >= 0), text.length) - 70);
  const start = first && text.indexOf(" ", first) + 1, far = start + 200;
  const end = far < text.length ? text.lastIndexOf(" ", far) : text.length;
  const parts = document.createElement("p");
  parts.append(start ? "… " : "");
  for (let at = start; at < end;) {
    const word = same && words.find(one => folded.startsWith(one, at));
    let next = at + 1;
    if (word) {
      next = at + word.length;
      const mark = document.createElement("mark");
      mark.textContent = text.slice(at, next);
      parts.append(mark);
    } else {
      while (next < end && !(same && words.some(one => folded.startsWith(one, next)))) next++;
      parts.append(text.slice(at, next));
    }
    at = next;
  }
  parts.append(end < text.length ? " …" : "");
  return parts;
}

function search() {
  const words = plain(field.value).split(/\s+/).filter(Boolean);
  results.hidden = words.length === 0;
  document.querySelector(".hint").hidden = words.length > 0;
  if (!words.length) return;
  const found = sections.map(section => [score(section, words), section]).filter(([points]) => points > 0);
  found.sort((a, b) => b[0] - a[0]);
  const count = found.length;
  status.textContent = count === 0 ? "Nothing found. Try a shorter word." : count === 1 ? "1 section" :
    count > SHOWN ? `${count} sections, the best ${SHOWN}` : `${count} sections`;
  list.replaceChildren(...found.slice(0, SHOWN).map(([, section]) => {
    const item = document.createElement("li"), link = document.createElement("a");
    link.href = `${section.page.name}.html${section.anchor && "#" + section.anchor}`;
    link.textContent = section.heading ? `${section.page.title} › ${section.heading}` : section.page.title;
    item.append(link, snippet(section, words));
    return item;
  }));
}

field.value = new URLSearchParams(location.search).get("q") || "";
field.addEventListener("input", search);
field.form.addEventListener("submit", event => { event.preventDefault(); search(); });
search();
