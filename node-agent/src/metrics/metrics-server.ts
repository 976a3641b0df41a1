import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Registry } from 'prom-client';

/** For this machine alone: whoever collects from elsewhere comes through something that asks who they are. */
const HOST = '127.0.0.1';

/** Serves `GET /metrics` in Prometheus' text format. */
export class MetricsServer {
  private constructor(private readonly server: Server) {}

  /** Rejects when the port cannot be had; 0 takes a free one. */
  static async listen(registry: Registry, port: number): Promise<MetricsServer> {
    const server = createServer({ requestTimeout: 10_000, connectionsCheckingInterval: 5_000 }, (request, response) => {
      request.resume();
      if (request.url?.split('?')[0] !== '/metrics') {
        response.writeHead(404).end();
        return;
      }
      registry.metrics().then(
        (text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text),
        () => response.writeHead(500).end(),
      );
    });
    server.maxConnections = 16;
    await new Promise<void>((listening, reject) => {
      server.once('error', reject);
      server.listen(port, HOST, listening);
    });
    return new MetricsServer(server);
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((closed) => this.server.close(closed));
  }
}
