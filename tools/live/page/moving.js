// Pictures that move: the camera, and a video file, which can be stepped through frame by frame.

const FRAME = 0.04; // seconds from frame to frame: a page is not told how many a video has
const CALM = matchMedia("(prefers-reduced-motion: reduce)");
let show = () => {};
let say = () => {};
let keep = () => {};
let stream = null; // the camera's, while it is on
let file = null; // the video's (Blob), while it is open
let name = "";
let running = false;

/**
 * take(name, bitmap, { moving, source }): shows a frame, then calls moving. trouble(text): says what went wrong. hold():
 * lets no further frame take the place of the one on the screen.
 */
export function listen({ take, trouble, hold }) {
  show = take;
  say = trouble;
  keep = hold;
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
  video.onseeked = () => {
    if (running) return;
    frame();
    video.requestVideoFrameCallback?.(() => running || frame()); // a busy browser may paint the new frame only after this event
  };
  video.onended = () => {
    pause();
    frame();
  };
  video.ontimeupdate = tell;
  video.onerror = () => {
    if (!file) return;
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
  begin(true);
}

const reasons = {
  NotAllowedError: "The camera was not allowed. Allow it next to the page's address, or choose a picture.",
  NotFoundError: "There is no camera on this computer. Choose a picture.",
  NotReadableError: "The camera is in use by another program. Close that program and try again.",
};

/** Plays a video file (Blob) from its start. */
export function play(blob, title) {
  still();
  name = title;
  file = blob;
  $("video").src = URL.createObjectURL(blob);
  begin(!CALM.matches);
}

function begin(plays) {
  for (const input of document.querySelectorAll("[name=photo]")) input.checked = false;
  $("transport").hidden = !file;
  $("player").hidden = false;
  $("play").textContent = "Play";
  if (plays) resume();
  else $("video").onloadeddata = frame;
}

/** Ends the camera or the video; the last frame stays as a picture. */
export function still() {
  const video = $("video");
  running = false;
  video.onloadeddata = null;
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  video.pause();
  video.srcObject = null;
  if (file) {
    URL.revokeObjectURL(video.src);
    file = null;
    video.removeAttribute("src");
    video.load();
  }
  $("player").hidden = true;
}

/** Holds the picture that is on the screen. */
export function pause() {
  if (!running) return;
  running = false;
  $("video").pause();
  $("play").textContent = "Play";
  keep();
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
  pause();
  $("video").currentTime = Math.min(Math.max(0, to), $("video").duration || 0);
}

/** Shows the present frame; while it plays, the next one is taken as soon as this one is on the screen. */
async function frame() {
  const video = $("video");
  if (!stream && !file) return;
  tell();
  if (video.readyState < 2) return running && setTimeout(frame, 30);
  const source = stream ?? file, moves = running, bitmap = await createImageBitmap(video).catch(() => null);
  if ((stream ?? file) !== source || (moves && !running)) return bitmap?.close(); // ended or paused meanwhile
  if (!bitmap) return running && setTimeout(frame, 30); // between two frames there may be none
  let first = true; // a frame may be shown twice, as when another view of it is chosen
  const moving = () => {
    if (first && running) requestAnimationFrame(frame);
    first = false;
  };
  show(name, bitmap, { moving, source });
}

function tell() {
  const video = $("video");
  if (!file || !Number.isFinite(video.duration)) return;
  $("moment").max = video.duration;
  $("moment").value = video.currentTime;
  $("clock").textContent = `${video.currentTime.toFixed(2)} of ${video.duration.toFixed(2)} s`;
}
