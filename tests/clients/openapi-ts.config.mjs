/** hey-api's generator: imports with extensions, as Node resolves them. */
export default {
  input: "../../openapi/openapi.json",
  output: { path: "generated/hey_api", module: { extension: ".js" } },
  plugins: ["@hey-api/client-fetch", "@hey-api/typescript", "@hey-api/sdk"],
};
