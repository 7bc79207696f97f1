// Pictures that move: the camera, and a video file, which can be stepped through frame by frame.

const FRAME = 0.04; // seconds from frame to frame: a page is not told how many a video has
let show = () => {};
let say = () => {};
let stream = null; // the camera's, while it is on
let address = null; // of the video file
let name = "";
let running = false;

/** take(name, bitmap, moving): shows a frame, then calls moving. trouble(text): says what went wrong. */
export function listen({ take, trouble }) {
  show = take;
  say = trouble;
  const video = $("video");
  $("camera").onclick = camera;
  $("stop").onclick = () => {
    still();
    $("camera").focus();
  };
  $("play").onclick = () => (running ? pause() : resume());
  $("earlier").onclick = () => step(-FRAME);
  $("later").onclick = () => step(FRAME);
  $("moment").oninput = () => seek(Number($("moment").value));
  video.onseeked = () => running || frame();
  video.onended = pause;
  video.ontimeupdate = tell;
  video.onerror = () => {
    if (!address) return;
    still();
    say(`${name} is not a video that this browser plays. Try an MP4 (H.264) or WebM file.`);
  };
}

async function camera() {
  still();
  if (!navigator.mediaDevices?.getUserMedia)
    return say("This browser gives a camera only to pages that come over https, or from this computer.");
  try {
    const started = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, facingMode: "environment" } });
    still(); // what was started while the reader was asked
    stream = started;
  } catch (error) {
    return say(reasons[error.name] ?? `The camera could not be started (${error.name}).`);
  }
  name = "camera";
  $("video").srcObject = stream;
  stream.getVideoTracks()[0].onended = still; // unplugged, or no longer allowed
  begin(false);
}

const reasons = {
  NotAllowedError: "The camera was not allowed. Allow it beside the page's address, or choose a picture.",
  NotFoundError: "There is no camera on this computer. Choose a picture.",
  NotReadableError: "The camera is in use by another program. Close that program and try again.",
};

/** Plays a video file (Blob) from its start. */
export function play(blob, title) {
  still();
  name = title;
  address = URL.createObjectURL(blob);
  $("video").src = address;
  begin(true);
}

async function begin(file) {
  for (const input of document.querySelectorAll("[name=photo]")) input.checked = false;
  $("transport").hidden = !file;
  $("player").hidden = false;
  resume();
}

/** Ends the camera or the video; the last frame stays as a picture. */
export function still() {
  const video = $("video");
  running = false;
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  video.pause();
  video.srcObject = null;
  if (address) {
    URL.revokeObjectURL(address);
    address = null;
    video.removeAttribute("src");
    video.load();
  }
  $("player").hidden = true;
}

function pause() {
  running = false;
  $("video").pause();
  $("play").textContent = "Go on";
}

async function resume() {
  const video = $("video");
  running = true;
  $("play").textContent = "Pause";
  try {
    if (video.ended) video.currentTime = 0;
    await video.play();
    frame();
  } catch (error) {
    if (error.name !== "AbortError" && error.name !== "NotSupportedError") say(`The video could not be played (${error.message}).`);
  }
}

function step(seconds) {
  pause();
  seek($("video").currentTime + seconds);
}

function seek(to) {
  if (running) pause();
  $("video").currentTime = Math.min(Math.max(0, to), $("video").duration || 0);
}

/** Shows the present frame; while it plays, the next one is taken as soon as this one is on the screen. */
async function frame() {
  const video = $("video");
  if (!stream && !address) return;
  tell();
  if (video.readyState < 2) return running && setTimeout(frame, 30);
  const source = stream ?? address, bitmap = await createImageBitmap(video);
  if ((stream ?? address) !== source) return bitmap.close(); // it was ended meanwhile
  let first = true; // a frame may be shown twice, as when another view of it is chosen
  show(name, bitmap, () => {
    if (first && running) requestAnimationFrame(frame);
    first = false;
  });
}

function tell() {
  const video = $("video");
  if (!address || !Number.isFinite(video.duration)) return;
  $("moment").max = video.duration;
  $("moment").value = video.currentTime;
  $("clock").textContent = `${video.currentTime.toFixed(2)} of ${video.duration.toFixed(2)} s`;
}
