// A product whose page has the portal in a frame, and whose backend asks for a link at each view: docs/portal.md.
import { createServer } from 'node:http';

export class Product {
  /** Gives a new link into the portal for a role. Set once there is a server that can be asked. */
  link = async () => { throw new Error('there is no portal yet'); };

  static async start() {
    const product = new Product();
    product.server = createServer((request, response) => product.#show(request, response));
    await new Promise((resolve) => { product.server.listen(0, '127.0.0.1', resolve); });
    // Cookies over plain HTTP are kept where page and portal have the same host name; ports do not count.
    product.origin = `http://localhost:${product.server.address().port}`;
    return product;
  }

  async #show(request, response) {
    const { pathname, searchParams } = new URL(request.url, this.origin);
    if (pathname !== '/') {
      response.writeHead(204).end();
      return;
    }
    try {
      const theme = searchParams.has('theme') ? `?theme=${searchParams.get('theme')}` : '';
      const url = await this.link(searchParams.get('role') ?? 'admin') + theme;
      response.writeHead(200, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' });
      response.end(`<!doctype html><html lang="en"><title>Kitchen desk</title><link rel="icon" href="data:,">
<h1>Kitchen desk</h1>
<iframe src="${url}" title="Webhooks" allow="clipboard-write" style="width:100%;height:90vh;border:0"></iframe>`);
    } catch (error) {
      response.writeHead(502).end(String(error));
    }
  }

  async stop() {
    this.server.closeAllConnections();
    await new Promise((resolve) => { this.server.close(resolve); });
  }
}
