/**
 * Node's HTTP and HTTPS. Importing `node:http` reads all that it exports, `fetch` among it, and so loads what few runs need:
 * 30 ms at every start. Asked for in this way it does not.
 */
export const http: typeof import('node:http') = process.getBuiltinModule('node:http')
export const https: typeof import('node:https') = process.getBuiltinModule('node:https')
