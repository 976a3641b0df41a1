CREATE TABLE "image_layers" (
	"project_id" text NOT NULL,
	"image_sha256" text NOT NULL,
	"layer_sha256" text NOT NULL,
	CONSTRAINT "image_layers_project_id_image_sha256_layer_sha256_pk" PRIMARY KEY("project_id","image_sha256","layer_sha256")
);
--> statement-breakpoint
CREATE TABLE "build_lines" (
	"project_id" text NOT NULL,
	"build_id" uuid NOT NULL,
	"sequence" integer NOT NULL,
	"at" timestamp with time zone NOT NULL,
	"stream" text NOT NULL,
	"text" text NOT NULL,
	CONSTRAINT "build_lines_build_id_sequence_pk" PRIMARY KEY("build_id","sequence")
);
--> statement-breakpoint
CREATE TABLE "builds" (
	"id" uuid PRIMARY KEY NOT NULL,
	"project_id" text NOT NULL,
	"function_name" text NOT NULL,
	"state" text NOT NULL,
	"context_sha256" text NOT NULL,
	"context_bytes" bigint NOT NULL,
	"node_id" text,
	"version" integer,
	"error" jsonb,
	"warnings" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"finished_at" timestamp with time zone,
	"renewed_at" timestamp with time zone DEFAULT now() NOT NULL,
	"cancel_requested" boolean DEFAULT false NOT NULL
);
--> statement-breakpoint
ALTER TABLE "artifacts" ADD COLUMN "unpacked_bytes" bigint;--> statement-breakpoint
ALTER TABLE "versions" ADD COLUMN "image" jsonb;--> statement-breakpoint
ALTER TABLE "versions" ADD COLUMN "image_settings" jsonb DEFAULT '{}'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "image_layers" ADD CONSTRAINT "image_layers_project_id_projects_project_id_fk" FOREIGN KEY ("project_id") REFERENCES "public"."projects"("project_id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "image_layers" ADD CONSTRAINT "image_layers_image" FOREIGN KEY ("project_id","image_sha256") REFERENCES "public"."artifacts"("project_id","sha256") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "image_layers" ADD CONSTRAINT "image_layers_layer_exists" FOREIGN KEY ("project_id","layer_sha256") REFERENCES "public"."artifacts"("project_id","sha256") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "build_lines" ADD CONSTRAINT "build_lines_project_id_projects_project_id_fk" FOREIGN KEY ("project_id") REFERENCES "public"."projects"("project_id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "build_lines" ADD CONSTRAINT "build_lines_build_id_builds_id_fk" FOREIGN KEY ("build_id") REFERENCES "public"."builds"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "builds" ADD CONSTRAINT "builds_project_id_projects_project_id_fk" FOREIGN KEY ("project_id") REFERENCES "public"."projects"("project_id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "image_layers_layer" ON "image_layers" USING btree ("project_id","layer_sha256");--> statement-breakpoint
CREATE INDEX "builds_function" ON "builds" USING btree ("project_id","function_name","id" DESC NULLS LAST);--> statement-breakpoint
CREATE INDEX "builds_unfinished" ON "builds" USING btree ("renewed_at") WHERE finished_at is null;