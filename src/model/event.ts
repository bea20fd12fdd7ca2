/** What a run does at the moment. */
export type Phase =
  | 'inspect'
  | 'open'
  | 'capture'
  | 'deliver'
  | 'finish'
  | 'copy'
  | 'read'
  | 'restore'
  | 'verify'
  | 'prune'

/** What a run reports while it goes on. Renderers and logs add the time and the run; no event holds a secret. */
export type RunEvent =
  | { readonly type: 'phase'; readonly phase: Phase; readonly job?: string; readonly unit?: string }
  | {
      readonly type: 'progress'
      readonly artifact: string
      /** Bytes read from a store so far; null while a backup is made. */
      readonly read: number | null
      /** Bytes that each store has taken so far. */
      readonly stored: Readonly<Record<string, number>>
    }
  | {
      readonly type: 'warning' | 'failure'
      readonly what: string
      readonly why: string
      readonly remedy: string
      readonly store?: string
      readonly unit?: string
      /** Where several jobs run at once. */
      readonly job?: string
    }
  /** Something worth knowing that is neither a fault nor a result: a retry, a skipped run. */
  | { readonly type: 'notice'; readonly text: string; readonly job?: string }
  | {
      readonly type: 'backup'
      readonly id: string
      readonly job: string
      readonly unit: string
      readonly stores: readonly string[]
      readonly bytes: number
      readonly seconds: number
    }
