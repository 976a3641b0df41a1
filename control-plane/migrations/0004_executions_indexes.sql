DROP INDEX "executions_project";--> statement-breakpoint
DROP INDEX "executions_function";--> statement-breakpoint
CREATE INDEX "executions_by_project" ON "executions" USING btree ("project_id","id");--> statement-breakpoint
CREATE INDEX "executions_by_function" ON "executions" USING btree ("project_id","function_name","id");