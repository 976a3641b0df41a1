export interface UpOptions {
  readonly httpPort: number;
  readonly grpcPort: number;
  readonly host: string;
  readonly dataDir: string;
  readonly nodes: number;
  readonly driver: 'auto' | 'docker' | 'process';
  /** Whether the agents build container images. */
  readonly builds?: boolean;
}

/** The scripts of the fleet's processes. Others are given by tests. */
export interface FleetScripts {
  readonly controlPlane: string;
  readonly agent: string;
}
