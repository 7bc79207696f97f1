// Where still pictures come from: the course's photos, a file, a drop, the clipboard.

import { fetched } from "./fetching.js";
import { play, still } from "./moving.js";
import { bitmapOf } from "./pictures.js";

/** take(name, bitmap, { path }): shows a picture. trouble(text, what, again): says what went wrong. */
export async function listen({ take, trouble }) {
  let newest = 0;

  async function file(blob, name = blob.name || "pasted picture", path = null, turn = ++newest) {
    if (turn !== newest) return;
    if (blob.type.startsWith("video/")) return play(blob, name);
    still();
    try {
      const bitmap = await bitmapOf(blob, name);
      if (turn === newest) take(name, bitmap, { path });
      else bitmap.close();
    } catch (error) {
      if (turn === newest) trouble(error.message);
    }
  }

  function byHand(files, nothing) { // no thumbnail is chosen any more
    const [first] = files;
    if (!first) return trouble(nothing);
    for (const input of document.querySelectorAll("[name=photo]")) input.checked = false;
    addressOf(null);
    file(first);
  }

  $("file").onchange = () => {
    if ($("file").files.length) byHand($("file").files);
    $("file").value = ""; // the same file can be chosen again
  };
  document.addEventListener("paste", (event) => {
    if (event.target.matches("#search") && !event.clipboardData.files.length) return; // a name, for the list
    event.preventDefault();
    byHand(event.clipboardData.files, "There is no picture in the clipboard. Copy a picture first, not its address.");
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dropping");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    byHand(event.dataTransfer.files, "That was not a file. Save the picture first, then drop the file.");
  });

  let photos = [];
  const named = () => photos.findIndex(({ file }) => short(file) === location.hash.slice(1));

  async function choose(index) {
    const turn = ++newest; // before it is fetched: what was chosen last counts, not what arrives last
    const { file: path, name } = photos[index];
    addressOf(path);
    try {
      await file(await (await fetched(path)).blob(), name, path, turn);
    } catch (error) {
      if (turn === newest) trouble(error.message, "photo", () => choose(index));
    }
  }

  window.onhashchange = () => {
    const index = named();
    if (index < 0) return location.hash && trouble(`This page has no photo with the name ${location.hash.slice(1)}.`);
    document.querySelectorAll("[name=photo]")[index].checked = true;
    choose(index);
  };

  async function begin() {
    try {
      photos = await (await fetched("photos/photos.json")).json();
    } catch (error) {
      return trouble(`${error.message} Choose a picture of your own.`, "photos", begin);
    }
    const first = Math.max(0, named());
    thumbnails(photos.map(({ name, file }) => ({ name, picture: file })), first, choose);
    if (!newest) choose(first); // unless the reader was faster
  }
  begin();
}

/** The page's address names the course's photo that is shown, for a bookmark or to be sent to somebody. */
function addressOf(path) {
  history.replaceState(null, "", path ? `#${short(path)}` : location.pathname + location.search);
}

const short = (path) => path.replace(/^photos\//, "");
