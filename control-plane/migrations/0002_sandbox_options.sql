ALTER TABLE "versions" ADD COLUMN "isolation" text DEFAULT 'auto' NOT NULL;--> statement-breakpoint
ALTER TABLE "versions" ADD COLUMN "network" text DEFAULT 'none' NOT NULL;--> statement-breakpoint
ALTER TABLE "versions" ADD COLUMN "egress_hosts" jsonb DEFAULT '[]'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "versions" ADD COLUMN "concurrency" integer DEFAULT 1 NOT NULL;--> statement-breakpoint
ALTER TABLE "versions" ADD COLUMN "keep_running" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "versions" ADD COLUMN "provisioned_concurrency" integer DEFAULT 0 NOT NULL;