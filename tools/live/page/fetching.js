// The page's own files.

/** The response with a file of this page, or an Error that names the file and says what is wrong. */
export async function fetched(name) {
  let response;
  try {
    response = await fetch(new URL(name, import.meta.url));
  } catch (error) {
    throw new Error(`${name} could not be fetched: is there a connection? (${error.message})`, { cause: error });
  }
  if (!response.ok) throw new Error(`${name} could not be fetched: the server says ${response.status}.`);
  return response;
}
