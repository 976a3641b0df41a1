export interface UpOptions {
  readonly httpPort: number;
  readonly grpcPort: number;
  readonly host: string;
  readonly dataDir: string;
  readonly nodes: number;
  readonly driver: 'auto' | 'docker' | 'process';
}

/** The scripts of the fleet's processes. Others are given by tests. */
export interface FleetScripts {
  readonly controlPlane: string;
  readonly agent: string;
}
