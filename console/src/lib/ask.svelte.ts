// Questions before something is done, and what became of it.

import { Problem, type Document } from './api.ts';

export interface Fact {
  text: string;
  grade?: 'warn' | 'bad';
}

export interface Choice {
  value: string;
  label: string;
}

export interface Input {
  name: string;
  label: string;
  kind: 'text' | 'select';
  value: string;
  choices?: Choice[];
  placeholder?: string;
  hint?: string;
  optional?: boolean;
}

export interface Question {
  title: string;
  /** What will happen; looked up while the question stands where it takes a request. */
  facts: Fact[] | (() => Promise<{ facts: Fact[]; isPossible: boolean }>);
  inputs?: Input[];
  confirm: string;
  isDangerous?: boolean;
  /** Has to be typed before the answer can be yes. */
  typed?: string;
  /** Does it. A problem is shown in the question, which then stays. */
  act: (values: Record<string, string>) => Promise<string | undefined>;
}

export interface Note {
  id: number;
  grade: 'ok' | 'bad';
  text: string;
  document?: Document;
}

const NOTE_MS = 5_000;
const MAX_NOTES = 4;

class Asking {
  question = $state.raw<Question | null>(null);
  notes = $state.raw<Note[]>([]);
  #next = 1;

  ask(question: Question): void {
    this.question = question;
  }

  done(): void {
    this.question = null;
  }

  say(text: string): void {
    this.#note({ id: this.#next++, grade: 'ok', text });
  }

  complain(error: unknown): void {
    const document = error instanceof Problem ? error.document : undefined;
    this.#note({ id: this.#next++, grade: 'bad', text: document?.title ?? String(error), ...(document && { document }) });
  }

  dismiss(id: number): void {
    this.notes = this.notes.filter((note) => note.id !== id);
  }

  #note(note: Note): void {
    this.notes = [...this.notes, note].slice(-MAX_NOTES);
    // What went wrong stays until it has been read.
    if (note.grade === 'ok') setTimeout(() => this.dismiss(note.id), NOTE_MS);
  }
}

export const asking = new Asking();

/** Does it, and says what went wrong if something does. */
export async function attempt(act: () => Promise<string | undefined>): Promise<void> {
  try {
    const said = await act();
    if (said) asking.say(said);
  } catch (error) {
    asking.complain(error);
  }
}
