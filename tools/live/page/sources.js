// Where still pictures come from: the course's photos, a file, a drop, the clipboard.

import { play, still } from "./moving.js";
import { bitmapOf } from "./pictures.js";

/** take(name, bitmap): shows a picture. trouble(text): says what went wrong. */
export async function listen({ take, trouble }) {
  let newest = 0;

  async function file(blob, name = blob.name || "pasted picture", turn = ++newest) {
    if (turn !== newest) return;
    if (blob.type.startsWith("video/")) return play(blob, name);
    still();
    try {
      const bitmap = await bitmapOf(blob, name);
      if (turn === newest) take(name, bitmap);
      else bitmap.close();
    } catch (error) {
      if (turn === newest) trouble(error.message);
    }
  }

  function byHand(files, nothing) { // no thumbnail is chosen any more
    const [first] = files;
    if (!first) return trouble(nothing);
    for (const input of document.querySelectorAll("[name=photo]")) input.checked = false;
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
    byHand(event.dataTransfer.files, "That was no file. Save the picture first, then drop the file.");
  });

  try {
    const photos = await (await fetch("photos/photos.json")).json();
    const start = Math.max(0, photos.findIndex((photo) => photo.file === `photos/${location.hash.slice(1)}`));
    const choose = async (index) => {
      const turn = ++newest; // before it is fetched: what was chosen last counts, not what arrives last
      const { file: path, name } = photos[index];
      try {
        await file(await (await fetch(path)).blob(), name, turn);
      } catch (error) {
        if (turn === newest) trouble(`${path} could not be fetched (${error.message}).`);
      }
    };
    thumbnails(photos.map((photo) => ({ name: photo.name, picture: photo.file })), start, choose);
    choose(start);
  } catch (error) {
    trouble(`The course's photos could not be fetched (${error.message}). Choose a picture of your own.`);
  }
}
