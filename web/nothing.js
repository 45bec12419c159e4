// Stands in for the modules of Node.js, which SentencePiece's package imports and a page lacks.
export default {};
