// A Worker that does jobs, bound by the tests' server as HANDLER_MIRROR. Its answer is what it was sent.
export default {
  async fetch(request) {
    const body = await request.text();
    if (JSON.parse(body).payload?.status) return new Response("{}", { status: JSON.parse(body).payload.status });
    const headers = [...request.headers];
    return Response.json({ path: new URL(request.url).pathname, headers, body });
  },
};
