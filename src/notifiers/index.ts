/** All notifiers there are, with the options that the configuration knows them by. */
export { webhookOptions, webhooks } from './webhook/index.ts'
