/**
 * One convolution embedded in an HTTP server that keeps answering while it computes.
 *   node --import tsx examples/server.ts [PORT]
 *   curl localhost:8080/blur      seconds of convolutions       curl localhost:8080/health      answers at once
 */
import { createServer } from "node:http";
import { conv3d, ready, type Tensor } from "voxgrad";

const size = 96;
const volume: Tensor<Float32Array> = {
  data: new Float32Array(size ** 3 * 16).map((_, i) => Math.sin(i)),
  shape: [1, size, size, size, 16],
};
const kernel = { data: new Float32Array(16 * 27 * 16).fill(1 / (27 * 16)), shape: [16, 3, 3, 3, 16] };

const server = createServer((request, response) => {
  const answer = (status: number, text: string) =>
    response.writeHead(status, { "content-type": "text/plain" }).end(`${text}\n`);
  if (request.url === "/health") {
    answer(200, "ok");
  } else if (request.url === "/blur") {
    const started = performance.now();
    blur(10).then(
      (value) => answer(200, `${value.toFixed(6)} after ${(performance.now() - started).toFixed(0)} ms`),
      (error: unknown) => answer(500, String(error)),
    );
  } else {
    answer(404, "try /blur or /health");
  }
});

async function blur(times: number): Promise<number> {
  let x = volume;
  for (let i = 0; i < times; i++) x = await conv3d(x, kernel, { padding: 1 });
  return x.data[0];
}

console.log(ready());
server.listen(Number(process.argv[2] ?? 8080), () => {
  const address = server.address();
  console.log(`listening on port ${typeof address === "object" ? address?.port : address}`);
});
